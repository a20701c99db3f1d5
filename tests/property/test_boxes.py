"""Two chunks: whether they overlap, whether they lie in a tensor, and their common region."""

from __future__ import annotations

import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.boxes import size
from parity.comparison import assert_same_answer
from parity.implementations import OURS
from property.strategies import NO_NUMBER, NUMBER, boxes, broken_chunks
from shardplan import _core
from shardplan.dcp.upstream import originals


@st.composite
def pairs(draw: st.DrawFn) -> tuple[int, Any, Any]:
    ndim = draw(st.integers(0, 3))
    one = st.one_of(boxes(ndim), boxes(ndim), broken_chunks(ndim))
    return ndim, draw(one), draw(one)


@given(pair=pairs(), data=st.data())
def test_two_chunks(pair: tuple[int, Any, Any], data: st.DataObject) -> None:
    ndim, a, b = pair
    for ours, upstream in (
        (OURS.default_planner._check_box_overlap, originals.check_box_overlap),
        (
            OURS.resharding._check_shard_metadata_pair_overlap,
            originals.check_shard_metadata_pair_overlap,
        ),
        (
            OURS.resharding._shards_get_overlap_region_wrt_saved_tensor,
            originals.shards_get_overlap_region_wrt_saved_tensor,
        ),
    ):
        assert_same_answer(ours, upstream, a, b)
    numbers = st.lists(NUMBER, min_size=ndim, max_size=ndim)
    outer = data.draw(
        st.one_of(numbers.map(size), numbers, st.lists(NUMBER, max_size=4).map(size), NO_NUMBER)
    )
    assert_same_answer(OURS.default_planner._check_box_bounds, originals.check_box_bounds, outer, a)


def test_core_rejects_invalid_buffers() -> None:
    """The core's own interface raises ValueError for bad buffers."""

    def numbers(*values: int) -> array.array[int]:
        return array.array("q", values)

    assert len(_core.Boxes(2, numbers(0, 0, 2, 0), numbers(2, 2, 2, 2))) == 2
    for ndim, offsets, sizes in (
        (0, numbers(), numbers()),
        (2, numbers(0), numbers(1)),
        (1, numbers(0, 1), numbers(1)),
        (1, numbers(2**63 - 1), numbers(1)),
        (1, array.array("i", [0]), numbers(1)),
    ):
        with pytest.raises(ValueError):
            _core.Boxes(ndim, offsets, sizes)
