"""Strategies for numbers, boxes, layouts, placements and state dicts, valid and broken."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.placement_types import Placement, _StridedShard

from parity.boxes import chunk, raw_chunk, size

SMALL = st.integers(0, 6)
ABSURD = st.sampled_from(
    [-1, -7, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**30]
)
NUMBER = st.one_of(SMALL, SMALL, SMALL, ABSURD)
NO_NUMBER = st.sampled_from([None, 1.0, 0.5, "1", True, (), float("nan")])
DTYPE = st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool])


def boxes(ndim: int, number: st.SearchStrategy[int] = SMALL) -> st.SearchStrategy[Any]:
    """A chunk with this many dims, at any offset."""
    numbers = st.lists(number, min_size=ndim, max_size=ndim)
    return st.builds(chunk, numbers, numbers)


@st.composite
def broken_chunks(draw: st.DrawFn, ndim: int) -> Any:
    """A chunk that upstream may fail on, or an object that is not a chunk."""
    match draw(st.integers(0, 5)):
        case 0:
            return draw(boxes(ndim, NUMBER))
        case 1:
            return draw(boxes(draw(st.integers(0, ndim + 1))))
        case 2:
            lengths = st.lists(SMALL, max_size=ndim + 1).map(size)
            return raw_chunk(draw(lengths), draw(lengths))
        case 3:
            numbers = st.lists(st.one_of(NUMBER, NO_NUMBER), min_size=ndim, max_size=ndim)
            make = draw(st.sampled_from([tuple, list]))
            return raw_chunk(make(draw(numbers)), make(draw(numbers)))
        case 4:
            whole = draw(boxes(ndim))
            setattr(whole, draw(st.sampled_from(["offsets", "sizes"])), draw(NO_NUMBER))
            return whole
        case _:
            return draw(st.sampled_from([None, 3, "chunk", {}, ChunkStorageMetadata]))


def shapes(min_dims: int = 0, max_dims: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(0, 9), min_size=min_dims, max_size=max_dims).map(tuple)


@st.composite
def tilings(draw: st.DrawFn, shape: tuple[int, ...], max_splits: int = 12) -> list[Any]:
    """Chunks that tile a tensor by recursive splits, which include rows, grids and k-d layouts."""
    pieces = [((0,) * len(shape), shape)]
    for _ in range(draw(st.integers(0, max_splits)) if shape else 0):
        offsets, sizes = pieces.pop(draw(st.integers(0, len(pieces) - 1)))
        dim = draw(st.integers(0, len(shape) - 1))
        cut = draw(st.integers(0, sizes[dim]))
        for start, length in ((0, cut), (cut, sizes[dim] - cut)):
            pieces.append(
                (
                    (*offsets[:dim], offsets[dim] + start, *offsets[dim + 1 :]),
                    (*sizes[:dim], length, *sizes[dim + 1 :]),
                )
            )
    return [chunk(offsets, sizes) for offsets, sizes in pieces]


@st.composite
def layouts(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Saved chunks of a tensor: mostly a tiling, complete or with a fault."""
    chunks = draw(tilings(shape))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, len(chunks)))
        match draw(st.integers(0, 5)):
            case 0:
                chunks.insert(at, draw(boxes(len(shape))))
            case 1 if chunks:
                chunks.insert(at, chunks[at % len(chunks)])
            case 2 if chunks:
                del chunks[at % len(chunks)]
            case 3:
                chunks.insert(at, draw(boxes(len(shape), NUMBER)))
            case 4:
                chunks.insert(at, draw(broken_chunks(len(shape))))
            case _:
                chunks.reverse()
    return chunks


@st.composite
def saved_tensors(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """The metadata of a tensor, rarely of the wrong type."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.sampled_from([None, 3, "saved", BytesStorageMetadata()]))
    chunks: Any = draw(layouts(shape))
    size: Any = torch.Size(shape)
    match draw(st.integers(0, 29)):
        case 0:
            chunks = draw(st.sampled_from([None, (), "chunks", tuple(chunks)]))
        case 1:
            size = draw(
                st.one_of(
                    st.lists(st.one_of(NUMBER, NO_NUMBER), max_size=3),
                    st.lists(NUMBER, max_size=3).map(tuple),
                    NO_NUMBER,
                )
            )
    return TensorStorageMetadata(
        properties=TensorProperties(dtype=torch.float32), size=size, chunks=chunks
    )


@st.composite
def meshes(draw: st.DrawFn) -> tuple[int, ...]:
    """The shape of a mesh with one to three dims."""
    return tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))


def placements(ndim: int, count: int) -> st.SearchStrategy[list[Placement]]:
    """One placement a mesh dim; several may shard the same dim of the tensor."""
    dims = st.integers(0, ndim - 1) if ndim else st.nothing()
    one = st.one_of(
        st.just(Replicate()),
        st.builds(Shard, dims),
        st.builds(_StridedShard, dims, split_factor=st.integers(1, 7)),
    )
    return st.lists(one, min_size=count, max_size=count)
