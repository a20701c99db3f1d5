"""Finds the faults of saved boxes, the ranks that saved the boxes, and the likely cause.

A report is plain data (dicts, lists, strings, numbers), so that it can be pickled in an exception
and printed as JSON. Nothing here imports torch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

from .. import _core

# Maximum overlaps and holes found per tensor; larger counts are reported as "at least".
_MAX_FOUND = 10_000
# Maximum boxes of a tensor for which a cause is determined.
_MAX_FOR_CAUSE = 100_000
# Maximum boxes per kind of fault in a report.
_MAX_REPORTED = 8
# Maximum boxes per kind of fault in the text of a report.
_MAX_SHOWN = 4
_MAX_NAME = 300


@dataclass(frozen=True)
class Saved:
    """The saved boxes of one tensor.

    Attributes:
        name: key of the tensor.
        shape: shape of the tensor.
        boxes: the saved boxes.
        owners: the rank that saves each box; empty, or None for a box, if unknown.
        holders: the ranks that hold a part of the tensor, including replicas that are not saved.
    """

    name: str
    shape: tuple[int, ...]
    boxes: _core.Boxes
    owners: Sequence[int | None] = ()
    holders: Collection[int] = ()


@dataclass(frozen=True)
class Faults:
    """The faults of the boxes of one tensor.

    Attributes:
        saved: the tensor and its boxes.
        out_of_bounds: indices of boxes that extend beyond the tensor.
        overlaps: pairs of indices of overlapping boxes.
        holes: (offsets, sizes) of regions that no box covers; empty if holes are allowed.
        complete: whether all overlaps and holes were found.
    """

    saved: Saved
    out_of_bounds: list[int]
    overlaps: list[tuple[int, int]]
    holes: list[tuple[list[int], list[int]]]
    complete: bool

    def __bool__(self) -> bool:
        return bool(self.out_of_bounds or self.overlaps or self.holes)

    @property
    def lost(self) -> int:
        """Number of elements that no box covers."""
        return sum(prod(sizes) for _, sizes in self.holes)

    @property
    def excess(self) -> int:
        """Number of elements that boxes have outside the tensor or more than once."""
        held = _core.elements(self.saved.boxes)
        return max(0, (held or 0) - (prod(self.saved.shape) - self.lost))


def find_faults(saved: Saved, must_fill: bool) -> Faults:
    """Finds the faults that ``default_planner._validate_global_plan`` reports, and their boxes.

    Args:
        saved: the tensor and its boxes.
        must_fill: whether the boxes must cover the whole tensor.
    """
    if not saved.shape:
        return Faults(saved, [], [], [], True)
    shape = list(saved.shape)
    overlaps = _core.overlaps(saved.boxes, shape, _MAX_FOUND)
    holes: list[tuple[list[int], list[int]]] = []
    complete = True
    if must_fill:
        holes, complete = _core.holes(saved.boxes, [0] * len(shape), shape, _MAX_FOUND)
    return Faults(
        saved,
        _core.out_of_bounds(saved.boxes, shape),
        overlaps,
        holes,
        complete and len(overlaps) < _MAX_FOUND,
    )


def report(
    found: Iterable[Faults], checked: int, world_size: int | None, most: int = 1_000
) -> dict[str, Any]:
    """Returns a report of faults as plain data, worst tensor first.

    Args:
        found: the faults of each faulty tensor.
        checked: number of tensors that were checked.
        world_size: number of ranks; None if unknown.
        most: maximum number of tensors in the report.
    """
    ordered = sorted(found, key=lambda faults: -(faults.lost + faults.excess))
    tensors = [_tensor_report(faults, world_size) for faults in ordered[:most]]
    return {
        "checked": checked,
        "bad": len(ordered),
        "world_size": world_size,
        "tensors": tensors,
        "left_out": len(ordered) - len(tensors),
    }


def shortened(diagnosis: dict[str, Any], budget: int = 40_000) -> dict[str, Any]:
    """Returns a report with only as many tensors as fit ``budget`` characters, but at least one."""
    tensors: list[dict[str, Any]] = []
    for tensor in diagnosis["tensors"]:
        budget -= len(json.dumps(tensor))
        if budget < 0 and tensors:
            break
        tensors.append(tensor)
    return {**diagnosis, "tensors": tensors, "left_out": diagnosis["bad"] - len(tensors)}


def _tensor_report(faults: Faults, world_size: int | None) -> dict[str, Any]:
    saved = faults.saved
    # Boxes with many dims are long.
    named = _MAX_REPORTED if len(saved.shape) <= 8 else 2

    def box(at: int) -> dict[str, Any]:
        offsets, sizes = _core.box(saved.boxes, at)
        return {"rank": owner_of(saved, at), "offsets": offsets, "sizes": sizes}

    return {
        "name": short(saved.name),
        "shape": list(saved.shape),
        "elements": prod(saved.shape),
        "boxes": len(saved.boxes),
        "all_found": faults.complete,
        "out_of_bounds": {
            "count": len(faults.out_of_bounds),
            "boxes": [box(at) for at in faults.out_of_bounds[:named]],
        },
        "overlap": {
            "count": len(faults.overlaps),
            "pairs": [
                {"a": box(other), "b": box(at)} for at, other in faults.overlaps[: (named + 1) // 2]
            ],
        },
        "hole": {
            "count": len(faults.holes),
            "elements": faults.lost,
            "boxes": [
                {"offsets": list(offsets), "sizes": list(sizes)}
                for offsets, sizes in faults.holes[:named]
            ],
        },
        "cause": likely_cause(faults, world_size),
    }


def owner_of(saved: Saved, at: int) -> int | None:
    """Returns the rank that saves a box; None if unknown."""
    return saved.owners[at] if at < len(saved.owners) else None


def short(name: str) -> str:
    """Truncates a name to 300 characters."""
    return name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}... ({len(name)} characters)"


def slices(offsets: Sequence[int], sizes: Sequence[int]) -> str:
    """Formats a box as slices of its tensor: ``[0:16, 0:4096]``."""
    spans = (f"{start}:{start + size}" for start, size in zip(offsets, sizes, strict=True))
    return f"[{', '.join(spans)}]"


def listed(numbers: Iterable[int], most: int = 8) -> str:
    """Formats numbers as at most ``most`` runs and a count of the rest: ``0-3, 8 and 10``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:most]]
    left = sum(last - first + 1 for first, last in runs[most:])
    if left:
        return f"{', '.join(texts)} and {left:,} more"
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def text(diagnosis: dict[str, Any], most: int | None = None) -> str:
    """Formats a report as text, with at most ``most`` tensors."""
    tensors = diagnosis["tensors"][:most]
    left = diagnosis["bad"] - len(tensors)
    lines = [
        f"{diagnosis['bad']:,} of {diagnosis['checked']:,} entries "
        f"{'is' if diagnosis['bad'] == 1 else 'are'} not saved exactly once"
        + (", worst first:" if diagnosis["bad"] > 1 else ":")
    ]
    for tensor in tensors:
        lines += _lines_of_tensor(tensor)
    if left:
        lines.append(f"  and {left:,} more tensors")
    return "\n".join(lines)


def _lines_of_tensor(tensor: dict[str, Any]) -> list[str]:
    boxes = "1 box" if tensor["boxes"] == 1 else f"{tensor['boxes']:,} boxes"
    lines = [f"  {tensor['name']} of size {tensor['shape']} in {boxes}:"]
    at_least = "" if tensor["all_found"] else "at least "
    outside, overlap, hole = tensor["out_of_bounds"], tensor["overlap"], tensor["hole"]
    if outside["count"]:
        boxes_outside = map(_box_text, outside["boxes"][:_MAX_SHOWN])
        lines.append(f"    out of bounds: {some(boxes_outside, outside['count'])}")
    if overlap["count"]:
        pairs = (
            f"{_box_text(pair['a'])} and {_box_text(pair['b'])}"
            for pair in overlap["pairs"][:_MAX_SHOWN]
        )
        many = "1 pair" if overlap["count"] == 1 else f"{overlap['count']:,} pairs"
        lines.append(f"    overlap: {at_least}{many}: {some(pairs, overlap['count'])}")
    if hole["count"]:
        missing = (slices(box["offsets"], box["sizes"]) for box in hole["boxes"][:_MAX_SHOWN])
        lines.append(
            f"    hole: {at_least}{hole['elements']:,} of {tensor['elements']:,} elements are in "
            f"no box: {some(missing, hole['count'])}"
        )
    if tensor["cause"]:
        lines.append(f"    likely cause: {tensor['cause']}")
    return lines


def _box_text(box: dict[str, Any]) -> str:
    of = "" if box["rank"] is None else f" of rank {box['rank']}"
    return f"{slices(box['offsets'], box['sizes'])}{of}"


def some(texts: Iterable[str], count: int, more: str = "more") -> str:
    """Joins texts and adds how many of ``count`` are not among them: ``a, b, and 3 more``."""
    shown = list(texts)
    left = count - len(shown)
    return ", ".join(shown) + (f", and {left:,} {more}" if left else "")


def likely_cause(faults: Faults, world_size: int | None) -> str | None:
    """Infers the likely cause of faults from the pattern of the boxes; None if there is no clue."""
    saved = faults.saved
    if len(saved.boxes) > _MAX_FOR_CAUSE:
        return None
    boxes = [_core.box(saved.boxes, at) for at in range(len(saved.boxes))]
    full = [at for at, (_, sizes) in enumerate(boxes) if all(size > 0 for size in sizes)]
    return (
        _cause_replicas(saved, boxes, full)
        or _cause_no_offsets(boxes, full, faults)
        or _cause_strided_shard(saved, boxes, full, faults)
        or _cause_missing_ranks(saved, boxes, full, faults, world_size)
        or _cause_wrong_size(saved, boxes, full)
        or _cause_missing_boxes(boxes, full, faults)
    )


def _cause_replicas(saved: Saved, boxes: list[Any], full: list[int]) -> str | None:
    holders: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for at in full:
        offsets, sizes = boxes[at]
        holders.setdefault((tuple(offsets), tuple(sizes)), []).append(at)
    repeated = [held for held in holders.values() if len(held) > 1]
    if not repeated:
        return None
    owners = [owner for at in repeated[0] if (owner := owner_of(saved, at)) is not None]
    by_ranks = ""
    if len(set(owners)) > 1:
        by_ranks = f", one of them by ranks {listed(owners)}"
    elif owners:
        return f"rank {owners[0]} saves the same box {len(owners)} times"
    times = {len(held) for held in holders.values()}
    if len(times) == 1:
        return (
            f"every box is saved {times.pop()} times{by_ranks}: these ranks hold replicas, but "
            f"their process group or mesh is not set up to replicate, or deduplication is disabled"
        )
    return (
        f"{len(repeated):,} boxes are saved more than once{by_ranks}: replicas were not "
        f"deduplicated"
    )


def _cause_no_offsets(boxes: list[Any], full: list[int], faults: Faults) -> str | None:
    starts = {tuple(boxes[at][0]) for at in full}
    if not faults.overlaps or len(full) < 2 or len(starts) > 1:
        return None
    return (
        f"every box begins at {list(starts.pop())}: each rank saved its local tensor as a whole "
        f"tensor, without its offsets in the global one"
    )


def _cause_strided_shard(
    saved: Saved, boxes: list[Any], full: list[int], faults: Faults
) -> str | None:
    if not faults.overlaps or not faults.holes or faults.out_of_bounds:
        return None
    if sum(prod(boxes[at][1]) for at in full) != prod(saved.shape):
        return None
    return (
        "the boxes have as many elements as the tensor, but they overlap and leave holes: a "
        "_StridedShard, whose rows are not contiguous, was saved as one box"
    )


def _cause_missing_ranks(
    saved: Saved, boxes: list[Any], full: list[int], faults: Faults, world_size: int | None
) -> str | None:
    holders = set(saved.holders) or {owner for owner in saved.owners if owner is not None}
    if not faults.holes or not holders or not full or world_size is None:
        return None
    absent = sorted(set(range(world_size)) - holders)
    largest = max(prod(boxes[at][1]) for at in full)
    # Ranks of other pipeline stages hold no part either, so compare the missing elements.
    if not absent or faults.lost > len(absent) * largest:
        return None
    one = len(absent) == 1
    return (
        f"{'rank' if one else 'ranks'} {_pattern(absent)} of {world_size:,} "
        f"{'has' if one else 'have'} no part of it: missing in the save, or in the mesh of the "
        f"tensor"
    )


def _pattern(ranks: list[int]) -> str:
    """Formats ranks as runs, or as ``1, 3, ..., 7 (every second)``."""
    steps = {after - before for before, after in pairwise(ranks)}
    if len(ranks) > 2 and len(steps) == 1 and (step := min(steps)) > 1:
        return f"{ranks[0]}, {ranks[1]}, ..., {ranks[-1]} (every {_ordinal(step)})"
    return listed(ranks)


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third", 4: "fourth"}.get(number, f"{number}th")


def _cause_wrong_size(saved: Saved, boxes: list[Any], full: list[int]) -> str | None:
    ends = ([start + size for start, size in zip(*boxes[at], strict=True)] for at in full)
    shape = [max(along) for along in zip(*ends, strict=True)]
    if not full or shape == list(saved.shape) or any(size > 2**62 for size in shape):
        return None
    inside = _core.check_boxes(saved.boxes, shape, True)
    if inside != "none":
        return None
    return (
        f"the boxes fill a tensor of size {shape} exactly: the recorded size {list(saved.shape)} "
        f"belongs to another tensor (padded, resized, or from another rank's state dict)"
    )


def _cause_missing_boxes(boxes: list[Any], full: list[int], faults: Faults) -> str | None:
    sizes = Counter(tuple(boxes[at][1]) for at in full)
    if len(faults.holes) < 2 or not sizes:
        return None
    usual, _ = sizes.most_common(1)[0]
    if any(tuple(hole) != usual for _, hole in faults.holes):
        return None
    return (
        f"{len(faults.holes):,} boxes of the same size as the others are missing: ranks were "
        f"missing in the save"
    )
