"""How the ranks of a world share one tensor: meshes, placements, ShardedTensors."""

from __future__ import annotations

import functools
import itertools
import random
from math import prod

import torch
import torch.distributed as dist
from torch.distributed._shard.sharded_tensor import Shard as LocalShard
from torch.distributed._shard.sharded_tensor import init_from_local_shards
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from .tensors import CONTIGUOUS, FORMS, formed

Box = tuple[tuple[int, ...], tuple[int, ...]]  # offsets and sizes
Pieces = list[tuple[Box, torch.Tensor]]


@functools.cache
def mesh_of(shape: tuple[int, ...], ranks: tuple[int, ...]) -> DeviceMesh:
    return DeviceMesh("cpu", torch.tensor(ranks).view(shape))


def a_mesh(draw: random.Random, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draws the shape and the ranks of a mesh, from few, because process groups are kept."""
    ranks = tuple(range(size))
    if size > 1 and draw.random() < 0.15:
        ranks = draw.choice((ranks[: size // 2], ranks[1:], ranks[-1:]))
    shapes = [
        (len(ranks),),
        (len(ranks),),
        *((n, len(ranks) // n) for n in range(1, len(ranks) + 1) if len(ranks) % n == 0),
    ]
    if len(ranks) == 4:
        shapes.append((2, 1, 2))
    return draw.choice(shapes), ranks


def placements_of(
    draw: random.Random, mesh: tuple[int, ...], shape: tuple[int, ...]
) -> list[Placement]:
    if not shape:
        return [Replicate() for _ in mesh]
    if len(mesh) == 2 and draw.random() < 0.35:
        # As FSDP on top of tensor parallelism has it, which divides the dimension evenly.
        even = [dim for dim, length in enumerate(shape) if length % mesh[1] == 0]
        if even:
            dim = draw.choice(even)
            return [_StridedShard(dim, split_factor=mesh[1]), Shard(dim)]
    return [
        Replicate() if draw.random() < 0.25 else Shard(draw.randrange(len(shape))) for _ in mesh
    ]


def box_of(
    shape: tuple[int, ...],
    mesh: tuple[int, ...],
    coordinate: list[int],
    placements: list[Placement],
) -> Box:
    """Returns the box of a rank: splits from left to right, those of strided shards last."""
    offsets, sizes = [0] * len(shape), list(shape)
    order = sorted(range(len(mesh)), key=lambda dim: isinstance(placements[dim], _StridedShard))
    for at in order:
        placement = placements[at]
        if isinstance(placement, Replicate):
            continue
        dim = placement.dim  # type: ignore[attr-defined]
        block = -(-sizes[dim] // mesh[at])
        start = min(coordinate[at] * block, sizes[dim])
        sizes[dim] = min(block, sizes[dim] - start)
        offsets[dim] += start
    return tuple(offsets), tuple(sizes)


def part(full: torch.Tensor, box: Box) -> torch.Tensor:
    offsets, sizes = box
    return full[tuple(slice(at, at + n) for at, n in zip(offsets, sizes, strict=True))]


def a_dtensor(
    draw: random.Random, full: torch.Tensor, forms: tuple[str, ...]
) -> tuple[DTensor, Pieces]:
    shape = tuple(full.shape)
    dims, ranks = a_mesh(draw, dist.get_world_size())
    placements = placements_of(draw, dims, shape)
    form = draw.choice(forms)
    mesh = mesh_of(dims, ranks)
    coordinate = mesh.get_coordinate()
    local = torch.empty(0, dtype=full.dtype)
    pieces: Pieces = []
    if coordinate is not None:
        box = box_of(shape, dims, list(coordinate), placements)
        local = formed(part(full, box), form)
        pieces.append((box, local))
    stride = tuple(prod(max(n, 1) for n in shape[at + 1 :]) for at in range(len(shape)))
    made = DTensor.from_local(
        local, mesh, placements, run_check=False, shape=torch.Size(shape), stride=stride
    )
    return made, pieces


def a_sharded_tensor(draw: random.Random, full: torch.Tensor) -> tuple[torch.Tensor, Pieces]:
    """Rows, and sometimes columns, of any length, each on any rank."""
    shape = tuple(full.shape)
    cuts = []
    for dim, length in enumerate(shape):
        count = draw.randint(0, min(4, length - 1)) if dim == 0 or draw.random() < 0.3 else 0
        cuts.append([0, *sorted(draw.sample(range(1, length), count)), length])
    form = draw.choice(CONTIGUOUS)
    shards, pieces = [], []
    for ends in itertools.product(*(list(itertools.pairwise(cut)) for cut in cuts)):
        owner = draw.randrange(dist.get_world_size())
        if owner != dist.get_rank():
            continue
        box = tuple(start for start, _ in ends), tuple(end - start for start, end in ends)
        tensor = formed(part(full, box), form)
        shards.append(LocalShard.from_tensor_and_offsets(tensor, list(box[0]), owner))
        pieces.append((box, tensor))
    return init_from_local_shards(shards, *shape), pieces


def spread(
    draw: random.Random, full: torch.Tensor, kinds: str, forms: tuple[str, ...] = FORMS
) -> tuple[torch.Tensor, Pieces]:
    """Draws how the ranks share a tensor of these values.

    Args:
        kinds: letters of ``D`` for DTensor, ``S`` for ShardedTensor, ``P`` for a plain tensor.
        forms: layouts in memory.
    """
    kind = draw.choice(kinds)
    if kind == "S" and full.numel():
        return a_sharded_tensor(draw, full)
    if kind == "P":
        tensor = formed(full, draw.choice(forms))
        return tensor, [(((0,) * full.dim(), tuple(full.shape)), tensor)]
    return a_dtensor(draw, full, forms)
