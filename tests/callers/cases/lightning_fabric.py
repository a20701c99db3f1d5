"""Lightning Fabric with its strategy for FSDP2: ``fabric.save`` and ``fabric.load``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from ..training import make_model, tensors_of, train

PACKAGE = "lightning"
REQUIREMENTS = ("lightning==2.6.6",)
WHAT = "Fabric, `ModelParallelStrategy` with FSDP2 + AdamW, `fabric.save` and `fabric.load`"


@dataclasses.dataclass
class State:
    fabric: Fabric
    model: nn.Module
    optimizer: torch.optim.Optimizer

    def saved(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "epoch": 3}


def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    return fully_shard(model, mesh=mesh["data_parallel"])


def prepare(device: str, entries: int) -> State:
    ranks = dist.get_world_size()
    strategy = ModelParallelStrategy(shard, data_parallel_size=ranks, tensor_parallel_size=1)
    fabric = Fabric(accelerator=device, devices=ranks, strategy=strategy)
    fabric.launch()
    model = fabric.setup(make_model(entries))
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(model.parameters(), lr=1e-2))
    train(model, optimizer, device)
    return State(fabric, model, optimizer)


def save(state: State, path: Path) -> None:
    state.fabric.save(path, state.saved())


def load(state: State, path: Path) -> None:
    state.fabric.load(path, state.saved())


def tensors(state: State) -> dict[str, torch.Tensor]:
    return tensors_of(state.model, state.optimizer)
