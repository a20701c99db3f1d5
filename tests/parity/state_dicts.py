"""Complete state dicts of a rank, as trainers create them."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from parity.worlds import dtensor_of, mesh_of, sharded_tensor_of


def fully_sharded(rank: int, world_size: int = 4) -> dict[str, Any]:
    """A model and its optimizer on a 1-D mesh, with uneven shards."""
    mesh = mesh_of((world_size,))
    shapes = {"embed": (11, 4), "wide": (3, 7), "norm": (5,), "tiny": (2,)}
    model: dict[str, Any] = {
        name: dtensor_of(shape, mesh, [Shard(0)], requires_grad=True)
        for name, shape in shapes.items()
    }
    state = {
        name: {
            "exp_avg": dtensor_of(shape, mesh, [Shard(0)]),
            "exp_avg_sq": dtensor_of(shape, mesh, [Shard(0)], dtype=torch.bfloat16),
            "step": torch.tensor(3.0),
        }
        for name, shape in shapes.items()
    }
    groups = [{"lr": 0.1, "params": list(shapes)}, {"lr": 0.2, "params": [], "betas": (0.9, 0.99)}]
    return {
        "model": model,
        "optimizer": {"state": state, "param_groups": groups},
        "step": 7,
        "rng": torch.zeros(8, dtype=torch.uint8),
    }


def tensor_parallel(rank: int) -> dict[str, Any]:
    """FSDP x TP on a 2-D mesh of two by two."""
    mesh = mesh_of((2, 2))
    return {
        "model": {
            "column": dtensor_of(
                (9, 4), mesh, [_StridedShard(0, split_factor=2), Shard(0)], requires_grad=True
            ),
            "row": dtensor_of((9, 5), mesh, [Shard(0), Shard(1)]),
            "norm": dtensor_of((3,), mesh, [Shard(0), Replicate()]),
            "scalar": dtensor_of((), mesh, [Replicate(), Replicate()]),
        },
        "step": 7,
    }


def replicated(rank: int) -> dict[str, Any]:
    """Plain tensors and objects, the same on every rank."""
    return {
        "weight": torch.zeros(3, 2),
        "bias": torch.zeros(7, dtype=torch.float64),
        "scalar": torch.tensor(1),
        "nothing": torch.zeros(0, 2),
        "config": {"depth": 2, "names": ["a", "b"]},
        "none": None,
    }


def pipelined(rank: int) -> dict[str, Any]:
    """Each pair of ranks has its own layers on a sub-mesh; every rank has the names of all."""
    first, second = mesh_of((2,), [0, 1]), mesh_of((2,), [3, 2])
    return {
        "layers": [
            {"weight": dtensor_of((5, 2), first, [Shard(0)])},
            {"weight": dtensor_of((5, 2), second, [Shard(0)])},
        ],
        f"only.{rank}": torch.zeros(rank + 1),
        "step": 7,
    }


def sharded_tables(rank: int) -> dict[str, Any]:
    """Embedding tables as row-wise ShardedTensors, some with several shards a rank."""
    rows = [((3 * part, 0), (3 if part < 3 else 1, 2), part) for part in range(4)]
    return {
        "table": sharded_tensor_of((10, 2), rows),
        "striped": sharded_tensor_of((8,), [((part,), (1,), part % 4) for part in range(8)]),
        "dense": torch.zeros(2),
    }


def uneven_tables(rank: int) -> dict[str, Any]:
    """The same with ranks that hold no shard, which upstream loads only in a real process group."""
    return {
        "table": sharded_tensor_of((10, 2), [((0, 0), (4, 2), 0), ((4, 0), (6, 2), 1)]),
        "elsewhere": sharded_tensor_of((4,), [((0,), (4,), 3)]),
    }


WORLD_SIZE = 4
LOADABLE = {
    "fully sharded": fully_sharded,
    "tensor parallel": tensor_parallel,
    "replicated": replicated,
    "pipelined": pipelined,
    "sharded tables": sharded_tables,
}
BY_NAME = {**LOADABLE, "uneven tables": uneven_tables}
