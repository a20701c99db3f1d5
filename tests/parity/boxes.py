"""Valid and broken chunks, sizes and tensor metadata for planners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    TensorProperties,
    TensorStorageMetadata,
)


def raw_chunk(offsets: Any, sizes: Any) -> ChunkStorageMetadata:
    """Returns a chunk with exactly these objects."""
    return ChunkStorageMetadata(offsets=offsets, sizes=sizes)


def chunk(offsets: Sequence[int], sizes: Sequence[int]) -> ChunkStorageMetadata:
    """Returns a chunk with torch.Size objects, or with tuples where numbers are beyond int64."""
    return raw_chunk(size(offsets), size(sizes))


def size(numbers: Sequence[int]) -> Any:
    """Returns a torch.Size, or a tuple where numbers are beyond int64."""
    if all(-(2**63) <= number < 2**63 for number in numbers):
        return torch.Size(numbers)
    return tuple(numbers)


def tensor_metadata(
    shape: Sequence[int], chunks: Any, dtype: torch.dtype = torch.float32
) -> TensorStorageMetadata:
    return TensorStorageMetadata(
        properties=TensorProperties(dtype=dtype), size=size(shape), chunks=chunks
    )


def row_chunks(rows: int, parts: int, *others: int) -> list[ChunkStorageMetadata]:
    """Shards a tensor of (rows, *others) on its first dim, as torch.chunk does."""
    return column_chunks((), rows, parts, *others)


def column_chunks(
    before: Sequence[int], length: int, parts: int, *after: int
) -> list[ChunkStorageMetadata]:
    """Shards a tensor of (*before, length, *after) on the dim of this length."""
    step = -(-length // parts)
    starts = [min(length, step * part) for part in range(parts)]
    return [
        chunk(
            (*(0 for _ in before), start, *(0 for _ in after)),
            (*before, min(step, length - start), *after),
        )
        for start in starts
    ]


def grid_chunks(shape: Sequence[int], parts: Sequence[int]) -> list[ChunkStorageMetadata]:
    """Returns the chunks of a grid, with each dim cut as torch.chunk does."""
    cells: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((), ())]
    for length, count in zip(shape, parts, strict=True):
        step = max(1, -(-length // count))
        cuts = [(start, min(step, length - start)) for start in range(0, length, step)]
        cells = [
            ((*offsets, start), (*sizes, extent))
            for offsets, sizes in cells
            for start, extent in cuts
        ]
    return [chunk(offsets, sizes) for offsets, sizes in cells]


# No planner should get such chunks; upstream handles each differently.
BROKEN_CHUNKS: dict[str, Any] = {
    "none": None,
    "a string": "chunk",
    "a number": 3,
    "no attributes": object(),
    "more dims": chunk((0, 0, 0), (1, 1, 1)),
    "fewer dims": chunk((0,), (1,)),
    "no dims": chunk((), ()),
    "more sizes than offsets": chunk((0, 0), (1, 1, 1)),
    "more offsets than sizes": chunk((0, 0, 0), (1, 1)),
    "negative offset": chunk((-1, 0), (2, 2)),
    "negative size": chunk((2, 2), (-1, 2)),
    "largest offset": chunk((2**63 - 1, 0), (0, 2)),
    "end beyond int64": chunk((2**63 - 1, 0), (2, 2)),
    "size beyond int64": chunk((0, 0), (2**63, 2)),
    "offset beyond int64": chunk((2**64, 0), (2, 2)),
    "offset far below int64": chunk((-(2**70), 0), (2**71, 2)),
    "volume beyond int64": chunk((0, 0), (2**62, 2**62)),
    "lists": raw_chunk([0, 0], [2, 2]),
    "tuples": raw_chunk((0, 0), (2, 2)),
    "floats": raw_chunk((0.0, 0.0), (2.0, 2.5)),
    "bools": raw_chunk((False, False), (True, True)),
    "strings": raw_chunk(("0", "0"), ("2", "2")),
    "none inside": raw_chunk((None, 0), (2, 2)),
    "offsets none": raw_chunk(None, torch.Size((2, 2))),
    "sizes none": raw_chunk(torch.Size((0, 0)), None),
    "offsets a number": raw_chunk(0, torch.Size((2, 2))),
    "offsets a tensor": raw_chunk(torch.tensor([0, 0]), torch.tensor([2, 2])),
    "zero size": chunk((1, 1), (0, 2)),
    "zero size at the end": chunk((4, 0), (0, 4)),
}
