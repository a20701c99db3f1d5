"""Finds tensors whose parts are equal byte for byte, natively and on several threads.

Most tensors of two checkpoints that are worth comparing are equal, and saved alike. All others are
left to the comparison element by element.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ... import _core
from ...diagnosis.streams import ReadRange
from ..checkpoint.entries import Entry
from .parts import NotCompared, Side

_MAX_THREADS = 8
_MAX_PARTS = 1 << 14
"""Number of parts that are compared by one call."""

_PartPair = tuple[int, int, int, int, int, int, list[int], str]


class EqualParts:
    """Compares the tensors of two checkpoints that are saved in the same boxes."""

    def __init__(self, a: Side, b: Side) -> None:
        self._sides = (a, b)
        self._files: dict[tuple[int, str], int] = {}
        self._paths: list[str | bytes] = []
        self._read_ranges: list[ReadRange | None] = []
        self._threads = _MAX_THREADS
        # Parts may share bytes, so that a small file has many of them.
        self._left = 2 * sum(sum(side.sizes.values()) for side in self._sides)

    def find(self, pairs: Sequence[tuple[Entry, Entry]]) -> set[int]:
        """Returns the positions of tensors whose elements are known to be equal.

        Args:
            pairs: for each entry, the entry in one checkpoint and that in the other.
        """
        equal: set[int] = set()
        parts: list[_PartPair] = []
        ends: list[tuple[int, int]] = []  # positions of tensors, and the ends of their parts
        for at, (entry, other) in enumerate(pairs):
            more = self._parts(entry, other) if entry.kind == "tensor" else None
            if more is None:
                continue
            parts.extend(more)
            ends.append((at, len(parts)))
            if len(parts) >= _MAX_PARTS:
                equal.update(self._compare(parts, ends))
                parts, ends = [], []
        equal.update(self._compare(parts, ends))
        return equal

    def _compare(self, parts: list[_PartPair], ends: list[tuple[int, int]]) -> list[int]:
        unequal = _core.unequal_parts(
            self._paths, self._read_ranges, parts, self._threads, lambda _: None
        )
        equal, begin, next_unequal = [], 0, 0
        for at, end in ends:
            is_equal = next_unequal == len(unequal) or unequal[next_unequal] >= end
            while next_unequal < len(unequal) and unequal[next_unequal] < end:
                next_unequal += 1
            if is_equal:
                equal.append(at)
                for one in parts[begin:end]:
                    self._sides[0].progress.advance(one[2])
                    self._sides[1].progress.advance(one[5])
            begin = end
        return equal

    def _parts(self, entry: Entry, other: Entry) -> list[_PartPair] | None:
        """Returns the parts of a tensor; None if the boxes differ, or have a fault."""
        both = list(zip(self._sides, (entry, other), strict=True))
        boxes = [side.opened.checkpoint.boxes(one.at) for side, one in both]
        if boxes[0] is None or boxes[1] is None or len(boxes[0]) != len(boxes[1]):
            return None
        shape = list(entry.shape)
        count = len(boxes[0])
        if shape:
            if _core.out_of_bounds(boxes[0], shape) or _core.overlaps(boxes[0], shape, 1):
                return None
        elif count != 1:
            return None
        locations = [side.opened.checkpoint.locations(one.at) for side, one in both]
        found: list[_PartPair] = []
        covered = 0
        for at in range(count):
            box = _core.box(boxes[0], at)
            if box != _core.box(boxes[1], at):
                return None
            if not all(box[1]):
                continue
            covered += prod(box[1])
            a, b = (self._part(side, locations[side][at]) for side in (0, 1))
            if a is None or b is None:
                return None
            found.append((*a, *b, box[1], entry.dtype))
        return found if covered == entry.elements and self._left >= 0 else None

    def _part(self, side: int, location: Any) -> tuple[int, int, int] | None:
        """Returns the file and the bytes of a part; None if it is not plainly in a file."""
        try:
            file, begin, length = self._sides[side].place(location)
        except NotCompared:
            return None
        if location[3]:  # transformed when it was written
            return None
        self._left -= length
        return self._file(side, file), begin, length

    def _file(self, side: int, name: str) -> int:
        known = self._files.get((side, name))
        if known is None:
            access = self._sides[side].opened.folder.access(name)
            known = self._files[side, name] = len(self._paths)
            self._paths.append(access.path)
            self._read_ranges.append(access.read_range)
            self._threads = min(self._threads, access.threads)
        return known
