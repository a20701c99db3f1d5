"""Validation of drawn metadata: the same verdict, messages in order, or the same exception."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata
from torch.distributed.checkpoint.planner import SavePlan

from parity.boxes import chunk, grid_chunks, tensor_metadata
from parity.comparison import assert_same_answer
from parity.implementations import OURS
from parity.verdicts import VALID
from property.strategies import boxes, saved_tensors, shapes, tilings
from shardplan.dcp.upstream import originals


def check(saved: Any, ranks: int) -> Any:
    return assert_same_answer(
        OURS.default_planner._validate_global_plan,
        originals.validate_global_plan,
        [SavePlan([])] * ranks,
        Metadata(saved),
    )


@given(data=st.data())
def test_broken_metadata(data: st.DataObject) -> None:
    saved = {}
    for key in ("a", "b", "c")[: data.draw(st.integers(1, 3))]:
        shape = data.draw(shapes(), label="shape")
        saved[key] = data.draw(st.one_of(saved_tensors(shape)), label=key)
    check(saved, data.draw(st.integers(1, 2), label="ranks"))


@given(data=st.data())
def test_tilings_are_valid_until_something_is_added(data: st.DataObject) -> None:
    shape = data.draw(shapes(1), label="shape")
    chunks = data.draw(tilings(shape), label="chunks")
    whole = [piece for piece in chunks if all(piece.sizes)]
    saved = {"w": tensor_metadata(shape, whole), "b": BytesStorageMetadata()}
    assert check(saved, 2) == VALID
    chunks.insert(
        data.draw(st.integers(0, len(chunks)), label="at"),
        data.draw(boxes(len(shape), st.integers(-1, 9)), label="stray"),
    )
    check({"w": tensor_metadata(shape, chunks)}, 2)
    check({"w": tensor_metadata(shape, chunks)}, 1)


@given(
    seed=st.integers(0, 2**32),
    shape=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    parts=st.lists(st.integers(1, 7), min_size=3, max_size=3),
    change=st.sampled_from(["nothing", "shift", "grow", "drop", "repeat", "empty", "many"]),
)
def test_large_grids(seed: int, shape: list[int], parts: list[int], change: str) -> None:
    """Shuffled grids with one changed chunk, so that one fault is among many chunks."""
    rng = random.Random(seed)
    chunks = grid_chunks(shape, parts[: len(shape)])
    rng.shuffle(chunks)
    at = rng.randrange(max(1, len(chunks)))
    if chunks and change in ("shift", "grow"):
        offsets, sizes = list(chunks[at].offsets), list(chunks[at].sizes)
        (offsets if change == "shift" else sizes)[rng.randrange(len(shape))] += rng.choice((-1, 1))
        chunks[at] = chunk(offsets, sizes)
    elif chunks and change == "drop":
        del chunks[at]
    elif chunks and change == "repeat":
        chunks.append(chunks[at])
    elif change in ("empty", "many"):
        for _ in range(1 if change == "empty" else 5):
            sizes = [rng.randint(0, 2) for _ in shape]
            sizes[rng.randrange(len(shape))] = 0
            offsets = [
                rng.randint(0, max(0, length - extent))
                for length, extent in zip(shape, sizes, strict=True)
            ]
            chunks.insert(rng.randint(0, len(chunks)), chunk(offsets, sizes))
    check({"w": tensor_metadata(shape, chunks)}, 2)
