"""Megatron's ``dist_checkpointing`` in the format ``torch_dist``, as its training loop calls it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing import ShardedObject, ShardedTensor

PACKAGE = "megatron-core"
REQUIREMENTS = ("megatron-core==0.16.1", "psutil==7.2.2")
# The writer's processes put their results into a queue when they end.
RESULTS_ORDERED = False
WHAT = "`dist_checkpointing.save` and `load` in `torch_dist`"


@dataclasses.dataclass
class State:
    values: dict[str, torch.Tensor]

    def sharded(self) -> dict[str, Any]:
        """Returns the sharded state dict: rows of each tensor on each rank, and an object."""
        rank, ranks = dist.get_rank(), dist.get_world_size()
        found: dict[str, Any] = {
            name: ShardedTensor.from_rank_offsets(name, tensor, (0, rank, ranks))
            for name, tensor in self.values.items()
        }
        found["rng_state"] = ShardedObject("rng_state", {"rank": rank}, (ranks,), (rank,))
        return found


def prepare(device: str, entries: int) -> State:
    if device == "cpu":
        # Megatron asks CUDA to be ready, and for the device of a flag that it reduces.
        torch.cuda.synchronize = lambda device=None: None  # type: ignore[assignment]
        torch.cuda.current_device = lambda: "cpu"  # type: ignore[assignment,return-value]
    generator = torch.Generator().manual_seed(dist.get_rank())
    values = {
        f"decoder.layers.{number}.weight": torch.randn(3, 5, generator=generator).to(device)
        for number in range(entries)
    }
    return State(values)


def save(state: State, path: Path) -> None:
    if dist.get_rank() == 0:
        path.mkdir()
    dist.barrier()
    dist_checkpointing.save(state.sharded(), str(path))


def load(state: State, path: Path) -> None:
    loaded = dist_checkpointing.load(state.sharded(), str(path))
    assert loaded.pop("rng_state") == {"rank": dist.get_rank()}
    state.values = loaded


def tensors(state: State) -> dict[str, torch.Tensor]:
    return dict(state.values)
