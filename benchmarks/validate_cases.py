"""Rows of ``_validate_global_plan``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from torch.distributed.checkpoint import default_planner as upstream_module
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan

from shardplan import default_planner
from shardplan.dcp.native import native
from shardplan.dcp.upstream import originals

from .agreement import expect, same
from .harness import Growth, Row, Speedup, alternate, race
from .workloads import Boxes, grid, kd_split, sharded

# With two plans or more, upstream also checks that the chunks cover their tensor.
PLANS = [SavePlan([]), SavePlan([])]

FEW, MANY = 100_000, 1_000_000
UPSTREAM_CAN = 512

COUNTED = "upstream chunks read; bounds, overlap, fill"

Layout = Callable[[int], Boxes]


# Created once for the layouts that shuffle them.
@lru_cache(maxsize=4)
def _cut(dim: int, count: int) -> Boxes:
    return sharded((3_000_017, 5_000_011), dim, count)


@lru_cache(maxsize=4)
def _grid(count: int) -> Boxes:
    counts = {UPSTREAM_CAN: (8, 8, 8), FEW: (50, 40, 50), MANY: (100, 100, 100)}[count]
    return grid((1_003, 2_005, 4_007), counts)


@lru_cache(maxsize=4)
def _kd_split(count: int) -> Boxes:
    return kd_split((1 << 20, 1 << 20), count)


LAYOUTS: dict[str, Layout] = {
    "1-D, large dim": lambda count: _cut(1, count),
    "1-D, small dim": lambda count: _cut(0, count),
    "1-D, small dim, shuffled": lambda count: _cut(0, count).shuffled(),
    "3-D grid": _grid,
    "3-D grid, shuffled": lambda count: _grid(count).shuffled(),
    "k-d split": _kd_split,
    "k-d split, shuffled": lambda count: _kd_split(count).shuffled(),
}


@contextmanager
def no_warnings() -> Iterator[None]:
    """Suppresses upstream's warning about each added fault."""
    logger = logging.getLogger(upstream_module.__name__)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def check_small(layout: Layout, count: int = UPSTREAM_CAN) -> None:
    """Checks that both give the same messages for a valid layout, and for one with each fault."""
    right = layout(count)
    faults = (right.overlap(), right.hole(), right.overrun())
    faulty = [right.with_fault(fault) for fault in faults]
    with no_warnings():
        for plans in (PLANS[:1], PLANS):
            for boxes in (right, *faulty):
                metadata = boxes.metadata()
                ours = default_planner._validate_global_plan(plans, metadata)
                expect(
                    same(ours, originals.validate_global_plan(plans, metadata)),
                    "validation differs from upstream",
                )
        expect(bool(ours), "a chunk out of bounds is not found")


def check_large(metadata: Metadata, boxes: Boxes) -> None:
    """Checks shardplan against the known answer, where upstream would take hours."""
    ((key, saved),) = metadata.state_dict_metadata.items()
    assert isinstance(saved, TensorStorageMetadata)
    expect(not default_planner._validate_global_plan(PLANS, metadata), "a valid layout is rejected")
    for fault, must_fill in ((boxes.overlap(), False), (boxes.hole(), True)):
        right = saved.chunks[fault.at]
        saved.chunks[fault.at] = fault.chunk()
        found = native.suspects(metadata.state_dict_metadata, must_fill)
        saved.chunks[fault.at] = right
        expect(found == [key], "an added fault is not found")


def small_dim(full: bool) -> Iterator[Row]:
    """8,192 chunks along the smaller dim; upstream compares all pairs."""
    metadata = sharded((16_384, 131_072), 0, 8_192).metadata()
    ours, upstream = race(
        lambda: default_planner._validate_global_plan(PLANS, metadata),
        lambda: originals.validate_global_plan(PLANS, metadata),
        loops=(10, 1),
        upstream_seconds=20 if full else 4,
    )
    yield Speedup(
        "validate 8,192 chunks, small dim",
        COUNTED,
        ours,
        upstream,
        target=1_000,
    )


def growth(full: bool) -> Iterator[Row]:
    """Ten times the chunks. Upstream is compared at a size that it can do."""
    for name, layout in LAYOUTS.items():
        check_small(layout)
        yield _growth_row(name, layout, rounds=9 if full else 5)


def _growth_row(name: str, layout: Layout, rounds: int) -> Row:
    boxes = layout(MANY)
    more, less = boxes.metadata(), layout(FEW).metadata()
    check_large(more, boxes)
    small, large = alternate(
        (
            lambda: default_planner._validate_global_plan(PLANS, less),
            lambda: default_planner._validate_global_plan(PLANS, more),
        ),
        rounds,
        loops=(5, 1),
    )
    work = f"validate 100,000 -> 1,000,000 chunks, {name}"
    return Growth(work, COUNTED, small, large, target=14)
