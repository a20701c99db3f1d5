"""Read items of drawn layouts: the same items, order and chunk indices, or the same exception."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from parity.boxes import chunk, grid_chunks, tensor_metadata
from parity.comparison import assert_same_answer, assert_same_pickles
from parity.implementations import OURS
from property.strategies import layouts, saved_tensors, shapes, tilings
from shardplan.dcp.upstream import originals

ours = OURS.planner_helpers.create_read_items_for_chunk_list
upstream = originals.create_read_items_for_chunk_list


def check(saved: Any, wanted: Any) -> None:
    expected = assert_same_answer(ours, upstream, "w", saved, wanted)
    if isinstance(expected, list):
        assert_same_pickles(ours("w", saved, wanted), expected)


@given(data=st.data())
def test_complete_layouts(data: st.DataObject) -> None:
    shape = data.draw(shapes(), label="shape")
    saved = data.draw(tilings(shape, 8), label="saved")
    check(tensor_metadata(shape, saved), data.draw(tilings(shape, 8), label="wanted"))


@given(data=st.data())
def test_broken_layouts(data: st.DataObject) -> None:
    shape = data.draw(shapes(), label="shape")
    saved = data.draw(saved_tensors(shape), label="saved")
    check(saved, data.draw(st.one_of(layouts(shape), st.none()), label="wanted"))


@given(
    seed=st.integers(0, 2**32),
    shape=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    parts=st.lists(st.integers(1, 6), min_size=6, max_size=6),
    strays=st.integers(0, 8),
)
def test_many_chunks(seed: int, shape: list[int], parts: list[int], strays: int) -> None:
    """Enough chunks for a tree of several levels, shuffled, with stray boxes in between."""
    rng = random.Random(seed)
    saved = grid_chunks(shape, parts[: len(shape)])
    wanted = grid_chunks(shape, parts[3 : 3 + len(shape)])
    for chunks in (saved, wanted):
        for _ in range(strays):
            offsets = [rng.randint(-2, length) for length in shape]
            chunks.append(chunk(offsets, [rng.randint(0, length + 1) for length in shape]))
        rng.shuffle(chunks)
    check(tensor_metadata(shape, saved), wanted)
