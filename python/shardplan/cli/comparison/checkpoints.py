"""Compares the values of two checkpoints: how many elements of a tensor differ, and by how much.

A tensor may be sharded differently in the two checkpoints. The boxes of one side are read one after
another, in pieces that fit the memory limit, and each piece is compared with the boxes of the other
side that overlap it. Elements are equal if their bytes are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from ... import _core
from ..checkpoint.deep import head_of_part, shape_text
from ..checkpoint.entries import Entry
from ..checkpoint.location import Opened
from ..display.terminal import Progress
from ..display.wording import bytes_text, counted, number_text
from ..failures import CommandError
from ..memory import available
from .elements import Compared, count_differences
from .equal_parts import EqualParts
from .parts import (
    BLOCK,
    NotCompared,
    Numbers,
    Part,
    Readinto,
    Side,
    long_dims,
    read_all,
)

_MIN_MEMORY = 64 << 20
# Elements compared per call. The temporary arrays take about 30 bytes per element.
_MAX_ELEMENTS = 1 << 18
_MAX_DIMS = 31  # numpy 1 allows 32; one is reserved for the halves of 128-bit elements
# Overlapping boxes are split into disjoint pieces. The number of pieces can grow to the number of
# pairs to the power of the number of dims.
_MAX_OVERLAPS = 16
# Pairs of boxes queried per call, and the minimum number of boxes of one side.
_MAX_PAIRS, _MIN_BATCH = 1 << 20, 64


def compare(
    a: Opened, b: Opened, pairs: Sequence[tuple[Entry, Entry]], limit: int | None
) -> list[Compared]:
    """Compares the values of entries that agree in name, kind, shape and dtype.

    Args:
        a: one checkpoint.
        b: the other checkpoint.
        pairs: for each entry to compare, the entry in ``a`` and that in ``b``.
        limit: memory limit in bytes; None for half of the available memory.

    Raises:
        CommandError: the limit is too small.
    """
    allowed = available() // 2 if limit is None else limit
    if allowed < _MIN_MEMORY:
        raise CommandError(
            f"comparing values needs {bytes_text(_MIN_MEMORY)} of memory, and the limit is "
            f"{bytes_text(allowed)}"
        )
    total = sum(one.stored + other.stored for one, other in pairs)
    with (
        Progress("comparing values", total) as progress,
        Side(a, progress) as side_a,
        Side(b, progress) as side_b,
    ):
        equal = EqualParts(side_a, side_b).find(pairs)
        return [
            Compared(one, compared=one.elements)
            if at in equal
            else _tensors(side_a, side_b, one, other, allowed)
            if one.kind == "tensor"
            else _objects(side_a, side_b, one, other)
            for at, (one, other) in enumerate(pairs)
        ]


@dataclass(frozen=True)
class _Piece:
    """A region of a tensor that lies in one part.

    Attributes:
        part: index of the part in the chunks of the tensor.
        start: offsets of the part in the tensor.
        offsets: offsets of the region in the tensor.
        sizes: sizes of the region.
    """

    part: int
    start: list[int]
    offsets: list[int]
    sizes: list[int]

    def cut(self, offsets: list[int], sizes: list[int]) -> _Piece:
        return _Piece(self.part, self.start, offsets, sizes)

    def within(self, offsets: Numbers) -> list[int]:
        """Converts offsets in the tensor to offsets in the part."""
        return [at - start for at, start in zip(offsets, self.start, strict=True)]


class _Pieces:
    """The disjoint pieces of a tensor in one checkpoint, and their parts."""

    def __init__(self, side: Side, entry: Entry, found: Compared) -> None:
        self.side = side
        self._entry = entry
        self._found = found
        boxes = side.opened.checkpoint.boxes(entry.at)
        if boxes is None:
            raise NotCompared(f"a box in {side.name} ends beyond int64", True)
        self._locations = side.opened.checkpoint.locations(entry.at)
        self._parts: dict[int, Part | None] = {}
        self.all = self._disjoint(boxes)
        self.stored = sum(location[2] for location in self._locations if location is not None)
        self.covered = sum(prod(piece.sizes) for piece in self.all)
        if (lacking := entry.elements - self.covered) > 0:
            is_in = "element is" if lacking == 1 else "elements are"
            why = f"{number_text(lacking)} {is_in} in no box of {side.name}"
            found.add_reason(why, side.opened.whole)

    def row_length(self) -> float:
        """Returns the mean number of elements per index of dim 0."""
        return sum(prod(one.sizes[1:]) for one in self.all) / max(len(self.all), 1)

    def part(self, piece: _Piece, most: int) -> Part | None:
        """Returns the part of a piece; records the reason and returns None if it is unusable."""
        at = piece.part
        if at not in self._parts:
            self._parts[at] = None
            sizes = _core.box(self._boxes, at)[1]
            try:
                self._parts[at] = Part(self.side, self._entry, self._locations[at], sizes, most)
            except NotCompared as error:
                where = f"the box at {shape_text(piece.start)}" if piece.start else "its part"
                self._found.add_reason(f"{where} in {self.side.name}: {error}", error.damaged)
        return self._parts[at]

    def length(self, piece: _Piece) -> int:
        """Returns the bytes of the part of a piece."""
        location = self._locations[piece.part]
        return 0 if location is None else location[2]

    def drop(self, piece: _Piece) -> None:
        """Frees the memory of a part that has been compared."""
        self._parts.pop(piece.part, None)

    def _disjoint(self, boxes: _core.Boxes) -> list[_Piece]:
        self._boxes = boxes
        shape = list(self._entry.shape)
        if not shape:
            if len(boxes) > 1:
                self._found.add_reason(
                    f"{counted(len(boxes), 'box', 'boxes')} of it in {self.side.name} overlap; the "
                    f"first one was compared",
                    True,
                )
            return [_Piece(0, [], [], [])] if len(boxes) else []
        outside = set(_core.out_of_bounds(boxes, shape))
        if outside:
            number = counted(len(outside), "box", "boxes")
            lie = "lies" if len(outside) == 1 else "lie"
            self._found.add_reason(f"{number} of it in {self.side.name} {lie} out of bounds", True)
        sound = []
        for at in range(len(boxes)):
            start, sizes = _core.box(boxes, at)
            if at not in outside and all(sizes):
                sound.append(_Piece(at, start, start, sizes))
        pairs = _core.overlaps(_boxes(sound, len(shape)), shape, _MAX_OVERLAPS + 1)
        if len(pairs) > _MAX_OVERLAPS:
            raise NotCompared(
                f"more than {_MAX_OVERLAPS} pairs of its boxes in {self.side.name} overlap", True
            )
        pieces = [[piece] for piece in sound]
        for first, later in sorted((min(pair), max(pair)) for pair in pairs):
            pieces[later] = [
                rest for piece in pieces[later] for rest in _without(piece, sound[first])
            ]
        if pairs:
            number = counted(len(pairs), "pair")
            overlap = "overlaps" if len(pairs) == 1 else "overlap"
            self._found.add_reason(
                f"{number} of its boxes in {self.side.name} {overlap}; the first box was compared",
                True,
            )
        return [one for some in pieces for one in some]


def _without(piece: _Piece, other: _Piece) -> Iterator[_Piece]:
    """Yields the parts of a piece that lie outside another piece."""
    first, length = list(piece.offsets), list(piece.sizes)
    ends = [at + size for at, size in zip(first, length, strict=True)]
    wanted = [
        (max(low, at), min(high, at + size))
        for low, high, at, size in zip(first, ends, other.offsets, other.sizes, strict=True)
    ]
    if any(low >= high for low, high in wanted):
        yield piece
        return
    for dim, (low, high) in enumerate(wanted):
        for begin, end in ((first[dim], low), (high, ends[dim])):
            if begin < end:
                offset, size = list(first), list(length)
                offset[dim], size[dim] = begin, end - begin
                yield piece.cut(offset, size)
        first[dim], length[dim] = low, high - low


def _tensors(a: Side, b: Side, entry: Entry, other: Entry, allowed: int) -> Compared:
    found = Compared(entry)
    try:
        sides = [_Pieces(a, entry, found), _Pieces(b, other, found)]
    except NotCompared as error:
        found.add_reason(str(error), error.damaged)
        return found
    # Iterate over the side with the longer rows, which contain those of the other side, so that a
    # row is read once on either side.
    sides.sort(key=lambda side: -side.row_length())
    ours, theirs = sides
    most = allowed // 4
    most_kept = most if theirs.stored <= most else 0
    last: _Piece | None = None
    for piece, overlapping in _overlapping_pieces(_units(ours, most), theirs, len(entry.shape)):
        if last is not None and last.part != piece.part:
            ours.drop(last)
        last = piece
        part = ours.part(piece, most)
        try:
            if part is not None:
                part.hold(piece.within(piece.offsets), piece.sizes)
        except OSError as error:
            found.add_reason(f"a box in {ours.side.name}: {error}", True)
            continue
        for one in overlapping:
            their_part = theirs.part(one, most_kept)
            if part is None or their_part is None:
                continue
            region = _overlap(piece, one)
            try:
                _regions(found, (part, piece), (their_part, one), *region)
            except OSError as error:
                found.add_reason(f"a box in {theirs.side.name}: {error}", True)
    return found


def _units(side: _Pieces, most: int) -> Iterator[_Piece]:
    """Yields the pieces of a side, split to fit the memory limit."""
    for whole in side.all:
        # A part that fits into memory is opened only when it is compared.
        part = side.part(whole, most) if side.length(whole) > most else None
        left = [whole]
        while left:
            piece = left.pop()
            if part is None or prod(piece.sizes) == 1 or part.reach(piece.sizes) <= most:
                yield piece
                continue
            for offsets, sizes in _halves(piece.offsets, piece.sizes, part.strides):
                left.append(piece.cut(offsets, sizes))


def _halves(
    offsets: list[int], sizes: list[int], strides: list[int]
) -> list[tuple[list[int], list[int]]]:
    """Splits a region in the dim that spans the most bytes; returns the second half first."""
    dim = max(range(len(sizes)), key=lambda at: (sizes[at] > 1, (sizes[at] - 1) * strides[at]))
    half = sizes[dim] // 2
    second, first = (list(offsets), list(sizes)), (list(offsets), list(sizes))
    first[1][dim] = half
    second[0][dim] += half
    second[1][dim] -= half
    return [second, first]


def _overlapping_pieces(
    units: Iterator[_Piece], theirs: _Pieces, ndim: int
) -> Iterator[tuple[_Piece, list[_Piece]]]:
    """Yields each piece with the pieces of the other side that overlap it."""
    if ndim == 0 or not theirs.all:
        yield from ((unit, theirs.all) for unit in units)
        return
    saved = _boxes(theirs.all, ndim)
    many = max(_MIN_BATCH, _MAX_PAIRS // len(theirs.all))
    batch: list[_Piece] = []

    def overlapping() -> Iterator[tuple[_Piece, list[_Piece]]]:
        of_each: list[list[_Piece]] = [[] for _ in batch]
        for unit, piece in zip(*_core.overlap_pairs(saved, _boxes(batch, ndim)), strict=True):
            of_each[unit].append(theirs.all[piece])
        yield from zip(batch, of_each, strict=True)

    for unit in units:
        batch.append(unit)
        if len(batch) == many:
            yield from overlapping()
            batch.clear()
    if batch:
        yield from overlapping()


def _boxes(pieces: list[_Piece], ndim: int) -> _core.Boxes:
    offsets, sizes = array("q"), array("q")
    for piece in pieces:
        offsets.extend(piece.offsets)
        sizes.extend(piece.sizes)
    return _core.Boxes(ndim, offsets, sizes)


def _overlap(a: _Piece, b: _Piece) -> tuple[list[int], list[int]]:
    offsets, sizes = [], []
    for one, other, size, length in zip(a.offsets, b.offsets, a.sizes, b.sizes, strict=True):
        offsets.append(max(one, other))
        sizes.append(min(one + size, other + length) - offsets[-1])
    return offsets, sizes


def _regions(
    found: Compared,
    a: tuple[Part, _Piece],
    b: tuple[Part, _Piece],
    offsets: list[int],
    sizes: list[int],
) -> None:
    """Compares a region that two parts share; splits it if it is large."""
    left = [(offsets, sizes)]
    while left:
        at, size = left.pop()
        locations = [(part, piece.within(at)) for part, piece in (a, b)]
        split_by = next(
            (part for part, start in locations if part.is_too_sparse(start, size)), None
        )
        if split_by is None and (prod(size) > _MAX_ELEMENTS or len(long_dims(size)) > _MAX_DIMS):
            split_by = a[0]
        if split_by is not None:
            left.extend(_halves(at, size, split_by.strides))
            continue
        found.compared += prod(size)
        count_differences(found, *(part.bits(start, size) for part, start in locations))


def _objects(a: Side, b: Side, entry: Entry, other: Entry) -> Compared:
    """Compares the bytes of two objects; if they differ, checks both for damage."""
    found = Compared(entry)
    readers = []
    for side, one in ((a, entry), (b, other)):
        try:
            reader, length = side.reader(side.opened.checkpoint.locations(one.at)[0])
            side.progress.advance(length)
            readers.append((side, reader, length))
        except NotCompared as error:
            found.add_reason(f"in {side.name} it {error}", error.damaged)
    if len(readers) < 2:
        return found
    try:
        if _same_bytes(*((reader, length) for _, reader, length in readers)):
            return found
    # A third-party file system may raise any exception.
    except Exception as error:
        found.add_reason(f"{type(error).__name__}: {error}", True)
        return found
    for side, reader, length in readers:
        if why := _damage_of_object(reader, length):
            found.add_reason(f"in {side.name} it is damaged: {why}", True)
    found.differing = 0 if found.damaged else 1
    return found


def _same_bytes(a: tuple[Readinto, int], b: tuple[Readinto, int]) -> bool:
    if a[1] != b[1]:
        return False
    for at in range(0, a[1], BLOCK):
        count = min(BLOCK, a[1] - at)
        if read_all(a[0], at, count) != read_all(b[0], at, count):
            return False
    return True


def _damage_of_object(readinto: Readinto, length: int) -> str | None:
    """Describes the damage of an object written by ``torch.save``; None if none is known."""
    try:
        if not head_of_part(readinto, length).startswith(b"PK\x03\x04"):
            return None
        member = _core.StoredPart(readinto, length).damaged_member()
        return None if member is None else f"checksum mismatch in {member}"
    except _core.UnreadPart:
        return None
    except (_core.BadPart, OSError) as error:
        return str(error)
