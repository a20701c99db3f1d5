"""Worlds of many ranks, one rank at a time, in this process.

With torch's fake process group, a process acts as one rank of a world of any size. That is enough
for planning, which needs meshes and coordinates and sends nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharded_tensor import Shard as LocalShard
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed._shard.sharded_tensor.metadata import (
    ShardedTensorMetadata,
    TensorProperties,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.distributed.tensor.placement_types import Placement
from torch.testing._internal.distributed.fake_pg import FakeStore


@contextlib.contextmanager
def rank_of(rank: int, world_size: int) -> Iterator[None]:
    """Makes this process ``rank`` of a world."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)
    try:
        yield
    finally:
        dist.destroy_process_group()


def mesh_of(shape: Sequence[int], ranks: Sequence[int] | None = None) -> DeviceMesh:
    """Returns a mesh of this shape over these ranks, or the first ranks."""
    count = int(torch.Size(shape).numel())
    ranks = range(count) if ranks is None else ranks
    return DeviceMesh("cpu", torch.tensor(list(ranks)).reshape(*shape), _init_backend=False)


def dtensor_of(
    shape: Sequence[int],
    mesh: DeviceMesh,
    placements: Sequence[Placement],
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    requires_grad: bool = False,
) -> DTensor:
    """Returns a DTensor whose local tensor has the size that upstream computes."""
    local_shape, _ = compute_local_shape_and_global_offset(
        torch.Size(shape), mesh, placements, skip_offset=True
    )
    whole = torch.empty(shape, device="meta")
    local = torch.zeros(local_shape, dtype=dtype, device=device)
    dtensor = DTensor.from_local(
        local, mesh, placements, run_check=False, shape=whole.size(), stride=whole.stride()
    )
    return dtensor.requires_grad_(requires_grad)


def sharded_tensor_of(
    shape: Sequence[int],
    boxes: Sequence[tuple[Sequence[int], Sequence[int], int]],
    *,
    dtype: torch.dtype = torch.float32,
) -> ShardedTensor:
    """Returns a ShardedTensor of (offsets, sizes, rank) boxes, with this rank's shards."""
    shards = [
        ShardMetadata(list(offsets), list(sizes), f"rank:{rank}/cpu")
        for offsets, sizes, rank in boxes
    ]
    local = [
        LocalShard(torch.zeros(shard.shard_sizes, dtype=dtype), shard)
        for shard, (_, _, rank) in zip(shards, boxes, strict=True)
        if rank == dist.get_rank()
    ]
    metadata = ShardedTensorMetadata(
        shards_metadata=shards,
        size=torch.Size(shape),
        tensor_properties=TensorProperties(dtype=dtype),
    )
    return ShardedTensor._init_from_local_shards_and_global_metadata(local, metadata)
