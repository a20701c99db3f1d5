"""State dicts of every kind of sharding, the same in every process that builds them."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed._shard.sharded_tensor import Shard as LocalShard
from torch.distributed._shard.sharded_tensor import ShardedTensor, init_from_local_shards
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

StateDict = dict[str, Any]


def device() -> str:
    """Where meshes and tensors are: on the GPU of this rank if the process group has NCCL."""
    return "cuda" if dist.is_initialized() and "nccl" in dist.get_backend_config() else "cpu"


@functools.cache
def mesh(*shape: int, names: tuple[str, ...] | None = None) -> DeviceMesh:
    return init_device_mesh(device(), shape, mesh_dim_names=names)


@functools.cache
def sub_mesh(*ranks: int) -> DeviceMesh:
    return DeviceMesh(device(), list(ranks))


def numbers(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor whose elements differ from each other and from those of other seeds."""
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float64, device=device())
    return torch.add(count, 1000 * seed).to(dtype).view(shape)


def spread(tensor: torch.Tensor, on: DeviceMesh, *placements: Placement) -> DTensor:
    return distribute_tensor(tensor, on, placements, src_data_rank=None)


class Block(nn.Module):
    """Sizes that FSDP cannot divide: TP halves 14, as it must, and FSDP gets 7."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(7)
        self.up = nn.Linear(7, 14)
        self.down = nn.Linear(14, 7, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change: torch.Tensor = self.down(torch.relu(self.up(self.norm(x))))
        return x + change


def trained(on: DeviceMesh, tensor_parallel: DeviceMesh | None = None) -> StateDict:
    """Model and AdamW after one step under FSDP2, with other objects of a training run."""
    torch.manual_seed(3)
    model = nn.Sequential(Block(), Block(), nn.Linear(7, 3)).to(device())
    for layer in model:
        if tensor_parallel is not None and isinstance(layer, Block):
            plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
            parallelize_module(layer, tensor_parallel, plan)
        fully_shard(layer, mesh=on)
    fully_shard(model, mesh=on)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(numbers(5, 7) / 1000).sum().backward()
    optimizer.step()
    model_state, optimizer_state = get_state_dict(model, optimizer)
    return {"model": model_state, "optimizer": optimizer_state, "epoch": 3, "losses": [2.5, 1.25]}


def fsdp() -> StateDict:
    return trained(mesh(dist.get_world_size()))


def fsdp_tp() -> StateDict:
    both = mesh(dist.get_world_size() // 2, 2, names=("fsdp", "tp"))
    return trained(both["fsdp"], both["tp"])


def hsdp() -> StateDict:
    return trained(mesh(2, dist.get_world_size() // 2, names=("replicate", "shard")))


# Keys of ``uneven`` that exist only for an even number of processes.
ON_A_GRID = {("grid",), ("one dim twice",), ("half replicated",)}


def uneven() -> StateDict:
    """Shards of every length, including zero, on either dim and on both."""
    row = mesh(dist.get_world_size())
    state: StateDict = {
        f"rows of {rows}": spread(numbers(rows, 3, seed=rows + 1), row, Shard(0))
        for rows in (0, 1, 2, 3, 5, 9)
    }
    state["columns"] = spread(numbers(3, 5, dtype=torch.bfloat16), row, Shard(1))
    state["last dim"] = spread(numbers(2, 3, 6, dtype=torch.int64), row, Shard(-1))
    state["no columns"] = spread(numbers(5, 0), row, Shard(0))
    if dist.get_world_size() % 2 == 0:
        grid = mesh(dist.get_world_size() // 2, 2)
        state["grid"] = spread(numbers(5, 7), grid, Shard(0), Shard(1))
        state["one dim twice"] = spread(numbers(7, 2), grid, Shard(0), Shard(0))
        state["half replicated"] = spread(numbers(3, 2), grid, Replicate(), Shard(0))
    return state


def replicated() -> StateDict:
    """Replicated entries: DCP must write each once, spread over the ranks by size."""
    row = mesh(dist.get_world_size())
    state: StateDict = {
        f"plain {i}": numbers(rows, 2, seed=i) for i, rows in enumerate((1, 40, 3, 17, 4, 4, 1, 1))
    }
    state["scalar"] = torch.tensor(1.5)
    state["empty"] = torch.empty(0, 4)
    state["parameter"] = nn.Parameter(numbers(3))
    state["strided"] = numbers(4, 6).t()
    state["replicated"] = spread(numbers(6, 2), row, Replicate())
    state["replicated scalar"] = spread(torch.tensor(2.5), row, Replicate())
    return state


def sharded_tensors() -> StateDict:
    """Row-wise tables: two shards on rank 0, none on rank 1, one on each other rank."""
    rank, others = dist.get_rank(), dist.get_world_size() - 2
    starts = [0, 3, *(4 + 2 * i for i in range(others)), 4 + 2 * others]
    mine = [0, 1] if rank == 0 else [] if rank == 1 else [rank]
    rows = starts[-1]

    def table(columns: int, seed: int) -> ShardedTensor:
        full = numbers(rows, columns, seed=seed)
        shards = [
            LocalShard.from_tensor_and_offsets(
                full[starts[i] : starts[i + 1]].clone(), [starts[i], 0], rank
            )
            for i in mine
        ]
        return init_from_local_shards(shards, rows, columns)

    return {"tables": {"users": table(2, 5), "items": table(3, 6)}, "dense": numbers(3, 3)}


def sub_meshes() -> StateDict:
    """DTensors that only some of the ranks hold."""
    last = dist.get_world_size() - 1
    return {
        "first two": spread(numbers(5, 2, seed=1), sub_mesh(0, 1), Shard(0)),
        "not the coordinator": spread(numbers(7, seed=2), sub_mesh(*{1, last}), Shard(0)),
        "only the last": spread(numbers(4, seed=3), sub_mesh(last), Replicate()),
        "all": spread(numbers(6, seed=4), mesh(last + 1), Shard(0)),
    }


def nested() -> StateDict:
    """Nested dicts and lists, and every kind of object that is saved as bytes."""
    row = mesh(dist.get_world_size())
    return {
        "tree": {
            "list": [numbers(2), {"deep": [spread(numbers(5), row, Shard(0)), 7]}, "text"],
            "tuple": (1, 2.5, None),
            "empty dict": {},
            "empty list": [],
            "dotted.key": {"a.b": numbers(3)},
            5: numbers(1),
        },
        "bytes": b"\x00\xff",
        "stream": io.BytesIO(b"stream"),
        "none": None,
        "set": {1, 2},
        "dtype": torch.float16,
        "rng": torch.arange(16, dtype=torch.uint8),
    }


BUILDERS: dict[str, Callable[[], StateDict]] = {
    builder.__name__: builder
    for builder in (
        fsdp,
        fsdp_tp,
        hsdp,
        uneven,
        replicated,
        sharded_tensors,
        sub_meshes,
        nested,
    )
}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """Yields every value of a state dict that is not a dict or list, with its path."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key], (*path, key))]
    if isinstance(value, list):
        return [leaf for i, item in enumerate(value) for leaf in leaves(item, (*path, i))]
    return [(path, value)]


def pieces(value: Any) -> list[tuple[tuple[int, ...], torch.Tensor]]:
    """Returns this rank's parts of a tensor: offsets and values, not copied."""
    if isinstance(value, DTensor):
        if value.device_mesh.get_coordinate() is None:
            return []
        _, offsets = compute_local_shape_and_global_offset(
            value.shape, value.device_mesh, value.placements
        )
        return [(tuple(offsets), value.to_local().detach())]
    if isinstance(value, ShardedTensor):
        return [
            (tuple(shard.metadata.shard_offsets), shard.tensor) for shard in value.local_shards()
        ]
    return [((0,) * value.dim(), value.detach())]


def blank(build: Callable[[], StateDict]) -> StateDict:
    """The same state dict with zeros, and None for objects."""

    def emptied(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: emptied(item) for key, item in value.items()}
        if isinstance(value, list):
            return [emptied(item) for item in value]
        if not isinstance(value, torch.Tensor):
            return None
        for _, tensor in pieces(value):
            tensor.zero_()
        return value

    emptied_state: StateDict = emptied(build())
    return emptied_state


def copied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("cpu", copy=True)


def held(state: StateDict) -> dict[tuple[Any, ...], Any]:
    """This rank's data of a state dict, to send and compare: tensors as (size, pieces)."""
    return {
        path: (tuple(value.size()), [(at, copied(piece)) for at, piece in pieces(value)])
        if isinstance(value, torch.Tensor)
        else value.getvalue()
        if isinstance(value, io.BytesIO)
        else value
        for path, value in leaves(state)
    }
