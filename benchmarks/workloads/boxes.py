"""Layouts of one tensor: chunks along a dim, in a grid or by k-d splits, in any order."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)

from .world import collector_paused

Numbers = Sequence[int]


@dataclass(frozen=True)
class Fault:
    """A wrong box, and its position in the list."""

    at: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    def chunk(self) -> ChunkStorageMetadata:
        return ChunkStorageMetadata(torch.Size(self.offsets), torch.Size(self.sizes))


@dataclass(frozen=True)
class Boxes:
    """Chunks of one tensor as columns: box ``i`` has ``offsets[i * ndim : (i + 1) * ndim]``."""

    shape: tuple[int, ...]
    offsets: array[int]
    sizes: array[int]

    @staticmethod
    def of(shape: Numbers, boxes: Iterable[tuple[Numbers, Numbers]]) -> Boxes:
        """Creates boxes from pairs of offsets and sizes."""
        made = Boxes(tuple(shape), array("q"), array("q"))
        for offsets, sizes in boxes:
            made.offsets.extend(offsets)
            made.sizes.extend(sizes)
        return made

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.offsets) // self.ndim

    def box(self, at: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the offsets and sizes of one box."""
        span = slice(at * self.ndim, (at + 1) * self.ndim)
        return tuple(self.offsets[span]), tuple(self.sizes[span])

    def shuffled(self, seed: int = 0) -> Boxes:
        """Returns the same boxes in random order."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        columns = (
            array(
                "q",
                torch.frombuffer(column, dtype=torch.int64)
                .view(-1, self.ndim)[order]
                .flatten()
                .tolist(),
            )
            for column in (self.offsets, self.sizes)
        )
        return Boxes(self.shape, *columns)

    def overlap(self) -> Fault:
        """Moves one box onto another, distant box."""
        return Fault(2 * len(self) // 3, *self.box(len(self) // 3))

    def hole(self) -> Fault:
        """Shortens one box by an element, along its first dim that has one."""
        at = len(self) // 3
        offsets, sizes = self.box(at)
        dim = next(dim for dim, size in enumerate(sizes) if size > 0)
        return Fault(at, offsets, (*sizes[:dim], sizes[dim] - 1, *sizes[dim + 1 :]))

    def overrun(self) -> Fault:
        """Extends the last box to end one element beyond its tensor."""
        at = len(self) - 1
        offsets, sizes = self.box(at)
        return Fault(at, offsets, (self.shape[0] - offsets[0] + 1, *sizes[1:]))

    def with_fault(self, fault: Fault) -> Boxes:
        """Returns the boxes with a fault among them."""
        made = Boxes(self.shape, self.offsets[:], self.sizes[:])
        span = slice(fault.at * self.ndim, (fault.at + 1) * self.ndim)
        made.offsets[span] = array("q", fault.offsets)
        made.sizes[span] = array("q", fault.sizes)
        return made

    def chunks(self) -> list[ChunkStorageMetadata]:
        """Returns the boxes as upstream chunks that share nothing."""
        with collector_paused():
            return [
                ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))
                for offsets, sizes in map(self.box, range(len(self)))
            ]

    def saved(self) -> TensorStorageMetadata:
        """A float32 tensor saved as these chunks."""
        return TensorStorageMetadata(
            TensorProperties(dtype=torch.float32), torch.Size(self.shape), self.chunks()
        )

    def metadata(self) -> Metadata:
        """A checkpoint with only this tensor."""
        return Metadata({"model.weight": self.saved()})


def sharded(shape: Numbers, dim: int, count: int) -> Boxes:
    """Cuts along one dim into ``count`` chunks whose sizes differ by at most one."""
    return grid(shape, [count if at == dim else 1 for at in range(len(shape))])


def grid(shape: Numbers, counts: Numbers) -> Boxes:
    """Cuts along every dim, into ``counts`` parts whose sizes differ by at most one."""
    spans = []
    for length, parts in zip(shape, counts, strict=True):
        cuts = [part * length // parts for part in range(parts + 1)]
        spans.append([(low, high - low) for low, high in pairwise(cuts)])
    cells = (tuple(zip(*cell, strict=True)) for cell in product(*spans))
    return Boxes.of(shape, ((offsets, sizes) for offsets, sizes in cells))


def kd_split(shape: Numbers, count: int, seed: int = 0) -> Boxes:
    """Cuts in two recursively, each part across its longest dim, at a random position."""
    if count > prod(shape):
        raise ValueError(f"a tensor of {prod(shape)} elements has no {count} parts")
    rng = random.Random(seed)
    made = Boxes(tuple(shape), array("q"), array("q"))
    pending = [([0] * len(shape), list(shape), count)]
    while pending:
        offsets, sizes, parts = pending.pop()
        if parts == 1:
            made.offsets.extend(offsets)
            made.sizes.extend(sizes)
            continue
        dim = max(range(len(sizes)), key=sizes.__getitem__)
        middle, jitter = sizes[dim] // 2, sizes[dim] // 8
        cut = min(max(middle + rng.randint(-jitter, jitter), 1), sizes[dim] - 1)
        # The parts are in proportion to the elements on each side, but not more than these.
        below = prod(sizes) // sizes[dim] * cut
        above = prod(sizes) - below
        left = parts * cut // sizes[dim]
        left = min(max(left, 1, parts - above), parts - 1, below)
        for start, length, share in ((cut, sizes[dim] - cut, parts - left), (0, cut, left)):
            part_offsets, part_sizes = offsets[:], sizes[:]
            part_offsets[dim] += start
            part_sizes[dim] = length
            pending.append((part_offsets, part_sizes, share))
    return made
