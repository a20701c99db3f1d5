"""What is wrong with the boxes of tensors, whose they are, and the likeliest cause.

Boxes are ``_core.Boxes``: nothing here needs torch. A diagnosis is plain data (dicts, lists, text,
numbers), so that it travels in an exception and becomes JSON as it is.
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

# Pairs and holes of one tensor that are looked for; more are "at least" so many.
_MAX_FOUND = 10_000
# Boxes of one tensor up to which a cause is looked for.
_MAX_WEIGHED = 100_000
# Boxes of a kind that a diagnosis names.
_NAMED = 8
# Of those, how many its text shows.
_SHOWN = 4
_MAX_NAME = 300


@dataclass(frozen=True)
class Saved:
    """The saved boxes of one tensor.

    owners: the rank that saves each box; none where that is not known
    holders: the ranks that have a part of the tensor, those whose part another one saves too
    """

    name: str
    shape: tuple[int, ...]
    boxes: _core.Boxes
    owners: Sequence[int | None] = ()
    holders: Collection[int] = ()


@dataclass(frozen=True)
class Faults:
    """What is wrong with the boxes of one tensor.

    holes: what no box covers, where every element has to be
    complete: whether these are all overlaps and all holes
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
        """Elements that no box covers."""
        return sum(prod(sizes) for _, sizes in self.holes)

    @property
    def excess(self) -> int:
        """Elements that boxes hold beyond the tensor, or beyond the first to hold them."""
        held = _core.elements(self.saved.boxes)
        return max(0, (held or 0) - (prod(self.saved.shape) - self.lost))


def find_faults(saved: Saved, must_fill: bool) -> Faults:
    """What ``default_planner._validate_global_plan`` finds wrong, and where."""
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
    """The diagnosis of what was found wrong, worst first; of ``most`` tensors.

    checked: tensors that were looked at
    world_size: number of ranks, where it is known
    """
    ordered = sorted(found, key=lambda faults: -(faults.lost + faults.excess))
    tensors = [_of_tensor(faults, world_size) for faults in ordered[:most]]
    return {
        "checked": checked,
        "bad": len(ordered),
        "world_size": world_size,
        "tensors": tensors,
        "left_out": len(ordered) - len(tensors),
    }


def shortened(diagnosis: dict[str, Any], budget: int = 40_000) -> dict[str, Any]:
    """A report with those of its tensors that fit ``budget`` characters, and one at least."""
    tensors: list[dict[str, Any]] = []
    for tensor in diagnosis["tensors"]:
        budget -= len(json.dumps(tensor))
        if budget < 0 and tensors:
            break
        tensors.append(tensor)
    return {**diagnosis, "tensors": tensors, "left_out": diagnosis["bad"] - len(tensors)}


def _of_tensor(faults: Faults, world_size: int | None) -> dict[str, Any]:
    saved = faults.saved
    # Boxes of many dims are long.
    named = _NAMED if len(saved.shape) <= 8 else 2

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
    """The rank that saves a box."""
    return saved.owners[at] if at < len(saved.owners) else None


def short(name: str) -> str:
    """A name that fits a line."""
    return name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}... ({len(name)} characters)"


def slices(offsets: Sequence[int], sizes: Sequence[int]) -> str:
    """A box as it would index its tensor: ``[0:16, 0:4096]``."""
    spans = (f"{start}:{start + size}" for start, size in zip(offsets, sizes, strict=True))
    return f"[{', '.join(spans)}]"


def listed(numbers: Iterable[int], most: int = 8) -> str:
    """Numbers as runs: ``0-3, 8 and 10``, the rest counted."""
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
    """A report in words; of the first ``most`` tensors."""
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
        lines.append(f"  and {left:,} tensors more")
    return "\n".join(lines)


def _lines_of_tensor(tensor: dict[str, Any]) -> list[str]:
    boxes = "1 box" if tensor["boxes"] == 1 else f"{tensor['boxes']:,} boxes"
    lines = [f"  {tensor['name']} of size {tensor['shape']} in {boxes}:"]
    at_least = "" if tensor["all_found"] else "at least "
    outside, overlap, hole = tensor["out_of_bounds"], tensor["overlap"], tensor["hole"]
    if outside["count"]:
        lines.append(
            f"    out of bounds: {some(map(_held, outside['boxes'][:_SHOWN]), outside['count'])}"
        )
    if overlap["count"]:
        pairs = (f"{_held(pair['a'])} and {_held(pair['b'])}" for pair in overlap["pairs"][:_SHOWN])
        many = "1 pair" if overlap["count"] == 1 else f"{overlap['count']:,} pairs"
        lines.append(f"    overlap: {at_least}{many}: {some(pairs, overlap['count'])}")
    if hole["count"]:
        missing = (slices(box["offsets"], box["sizes"]) for box in hole["boxes"][:_SHOWN])
        lines.append(
            f"    hole: {at_least}{hole['elements']:,} of {tensor['elements']:,} elements are in "
            f"no box: {some(missing, hole['count'])}"
        )
    if tensor["cause"]:
        lines.append(f"    likely cause: {tensor['cause']}")
    return lines


def _held(box: dict[str, Any]) -> str:
    of = "" if box["rank"] is None else f" of rank {box['rank']}"
    return f"{slices(box['offsets'], box['sizes'])}{of}"


def some(texts: Iterable[str], count: int, more: str = "more") -> str:
    """Texts in a line, and how many of ``count`` they leave out."""
    shown = list(texts)
    left = count - len(shown)
    return ", ".join(shown) + (f", and {left:,} {more}" if left else "")


def likely_cause(faults: Faults, world_size: int | None) -> str | None:
    """What the pattern of the boxes says about how they came to be; None where it says nothing."""
    saved = faults.saved
    if len(saved.boxes) > _MAX_WEIGHED:
        return None
    boxes = [_core.box(saved.boxes, at) for at in range(len(saved.boxes))]
    full = [at for at, (_, sizes) in enumerate(boxes) if all(size > 0 for size in sizes)]
    return (
        _replicas(saved, boxes, full)
        or _no_offsets(boxes, full, faults)
        or _strided(saved, boxes, full, faults)
        or _ranks_left_out(saved, boxes, full, faults, world_size)
        or _other_size(saved, boxes, full)
        or _regular_holes(boxes, full, faults)
    )


def _replicas(saved: Saved, boxes: list[Any], full: list[int]) -> str | None:
    holders: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for at in full:
        offsets, sizes = boxes[at]
        holders.setdefault((tuple(offsets), tuple(sizes)), []).append(at)
    repeated = [held for held in holders.values() if len(held) > 1]
    if not repeated:
        return None
    owners = [owner for at in repeated[0] if (owner := owner_of(saved, at)) is not None]
    who = ""
    if len(set(owners)) > 1:
        who = f", one of them by ranks {listed(owners)}"
    elif owners:
        return f"rank {owners[0]} saves the same box {len(owners)} times"
    times = {len(held) for held in holders.values()}
    if len(times) == 1:
        return (
            f"every box is saved {times.pop()} times{who}: these ranks hold replicas, and their "
            f"process group or mesh was not told to replicate, or deduplication is switched off"
        )
    return f"{len(repeated):,} boxes are saved more than once{who}: replicas that were not dropped"


def _no_offsets(boxes: list[Any], full: list[int], faults: Faults) -> str | None:
    starts = {tuple(boxes[at][0]) for at in full}
    if not faults.overlaps or len(full) < 2 or len(starts) > 1:
        return None
    return (
        f"every box begins at {list(starts.pop())}: each rank saved its local tensor as if it were "
        f"whole, without its place in the global one"
    )


def _strided(saved: Saved, boxes: list[Any], full: list[int], faults: Faults) -> str | None:
    if not faults.overlaps or not faults.holes or faults.out_of_bounds:
        return None
    if sum(prod(boxes[at][1]) for at in full) != prod(saved.shape):
        return None
    return (
        "the boxes have as many elements as the tensor, and yet overlap and leave holes: a "
        "_StridedShard, whose rows do not lie together, was saved as one box"
    )


def _ranks_left_out(
    saved: Saved, boxes: list[Any], full: list[int], faults: Faults, world_size: int | None
) -> str | None:
    holders = set(saved.holders) or {owner for owner in saved.owners if owner is not None}
    if not faults.holes or not holders or not full or world_size is None:
        return None
    absent = sorted(set(range(world_size)) - holders)
    a_box = max(prod(boxes[at][1]) for at in full)
    # Ranks that hold no part of a tensor need not be at fault: those of other stages do not.
    if not absent or faults.lost > len(absent) * a_box:
        return None
    one = len(absent) == 1
    return (
        f"{'rank' if one else 'ranks'} {_pattern(absent)} of {world_size:,} "
        f"{'has' if one else 'have'} no part of it: left out of the save, or of the mesh that the "
        f"tensor was sharded on"
    )


def _pattern(ranks: list[int]) -> str:
    """Numbers as runs, or as every so many."""
    steps = {after - before for before, after in pairwise(ranks)}
    if len(ranks) > 2 and len(steps) == 1 and (step := min(steps)) > 1:
        return f"{ranks[0]}, {ranks[1]}, ..., {ranks[-1]} (every {_ordinal(step)})"
    return listed(ranks)


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third", 4: "fourth"}.get(number, f"{number}th")


def _other_size(saved: Saved, boxes: list[Any], full: list[int]) -> str | None:
    ends = ([start + size for start, size in zip(*boxes[at], strict=True)] for at in full)
    shape = [max(along) for along in zip(*ends, strict=True)]
    if not full or shape == list(saved.shape) or any(size > 2**62 for size in shape):
        return None
    inside = _core.check_boxes(saved.boxes, shape, True)
    if inside != "none":
        return None
    return (
        f"the boxes fill a tensor of size {shape} exactly: the recorded size {list(saved.shape)} "
        f"is of another one (padded, resized, or of another rank's state dict)"
    )


def _regular_holes(boxes: list[Any], full: list[int], faults: Faults) -> str | None:
    sizes = Counter(tuple(boxes[at][1]) for at in full)
    if len(faults.holes) < 2 or not sizes:
        return None
    usual, _ = sizes.most_common(1)[0]
    if any(tuple(hole) != usual for _, hole in faults.holes):
        return None
    return (
        f"{len(faults.holes):,} boxes as large as the others are missing, each by itself: ranks "
        f"were left out of the save"
    )
