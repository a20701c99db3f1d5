"""Overlap, bounds, and the overlapping region of two chunks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from parity.boxes import BROKEN_CHUNKS, chunk
from parity.comparison import assert_same_answer
from parity.implementations import OURS, Implementation
from shardplan.dcp.upstream import originals

WHOLE_CHUNKS = [
    chunk((0, 0), (4, 4)),
    chunk((2, 0), (2, 4)),
    chunk((0, 2), (4, 2)),
    chunk((4, 0), (4, 4)),
    chunk((1, 1), (1, 1)),
    chunk((0, 0), (0, 0)),
]
EVERY_CHUNK = [*WHOLE_CHUNKS, *BROKEN_CHUNKS.values()]
SIZES: list[Any] = [
    torch.Size((4, 4)),
    torch.Size((0, 4)),
    torch.Size(()),
    torch.Size((4,)),
    torch.Size((4, 4, 4)),
    (4, 4),
    [4, 4],
    (2**70, 4),
    (4.0, 4.0),
    None,
    "44",
]


@pytest.mark.parametrize(
    ("a", "b", "meet"),
    [
        (chunk((0,), (4,)), chunk((4,), (4,)), False),
        (chunk((0,), (5,)), chunk((4,), (4,)), True),
        (chunk((0, 0), (2, 4)), chunk((2, 0), (2, 4)), False),
        (chunk((0, 0), (2, 4)), chunk((1, 3), (2, 4)), True),
        (chunk((0,), (0,)), chunk((0,), (4,)), False),
        (chunk((2,), (0,)), chunk((0,), (4,)), True),
        (chunk((), ()), chunk((), ()), True),
    ],
)
def test_overlap_is_known(implementation: Implementation, a: Any, b: Any, meet: bool) -> None:
    planner, resharding = implementation.default_planner, implementation.resharding
    for first, second in ((a, b), (b, a)):
        assert planner._check_box_overlap(first, second) is meet
        assert resharding._check_shard_metadata_pair_overlap(first, second) is meet


def test_region_is_known(implementation: Implementation) -> None:
    region = implementation.resharding._shards_get_overlap_region_wrt_saved_tensor(
        chunk((2, 0), (4, 6)), chunk((0, 3), (5, 9))
    )
    assert region == [(0, 0, 2, 3), (1, 3, 0, 3)]


def test_bounds_are_known(implementation: Implementation) -> None:
    inside = implementation.default_planner._check_box_bounds
    assert inside(torch.Size((4, 4)), chunk((2, 0), (2, 4)))
    assert inside(torch.Size((4, 4)), chunk((4, 0), (0, 4)))
    assert not inside(torch.Size((4, 4)), chunk((2, 0), (3, 4)))
    assert not inside(torch.Size((4, 4)), chunk((-1, 0), (2, 4)))
    assert not inside(torch.Size((4, 4)), chunk((2, 0), (-1, 4)))


def test_overlap_of_every_pair() -> None:
    for a, b in itertools.product(EVERY_CHUNK, repeat=2):
        assert_same_answer(
            OURS.default_planner._check_box_overlap, originals.check_box_overlap, a, b
        )
        assert_same_answer(
            OURS.resharding._check_shard_metadata_pair_overlap,
            originals.check_shard_metadata_pair_overlap,
            a,
            b,
        )


def test_region_of_every_pair() -> None:
    for a, b in itertools.product(EVERY_CHUNK, repeat=2):
        assert_same_answer(
            OURS.resharding._shards_get_overlap_region_wrt_saved_tensor,
            originals.shards_get_overlap_region_wrt_saved_tensor,
            a,
            b,
        )


def test_bounds_of_every_chunk() -> None:
    for size, inner in itertools.product(SIZES, EVERY_CHUNK):
        assert_same_answer(
            OURS.default_planner._check_box_bounds, originals.check_box_bounds, size, inner
        )


def test_arguments_by_name() -> None:
    """DCP itself passes these two by name."""
    a, b = WHOLE_CHUNKS[:2]
    assert OURS.resharding._shards_get_overlap_region_wrt_saved_tensor(
        saved_shard=a, current_shard=b
    ) == originals.shards_get_overlap_region_wrt_saved_tensor(saved_shard=a, current_shard=b)
    assert OURS.default_planner._check_box_bounds(outer_box_size=torch.Size((4, 4)), inner_box=a)
