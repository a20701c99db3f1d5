"""Lightning Fabric with its strategy for FSDP1, whose sharded state dicts have ShardedTensors."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.strategies import FSDPStrategy
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

from ..training import make_model, tensors_of, train

PACKAGE = "lightning"
REQUIREMENTS = ("lightning==2.6.6",)
WHAT = "Fabric, `FSDPStrategy` with FSDP1 + AdamW, `fabric.save` and `fabric.load`"


class CPUStrategy(FSDPStrategy):
    """The same. On a CPU, Fabric refuses that class itself, and takes one that is derived from it.

    Fabric wraps a model for a GPU only, but takes one that its user has wrapped.
    """


@dataclasses.dataclass
class State:
    fabric: Fabric
    model: nn.Module
    optimizer: torch.optim.Optimizer

    def saved(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "epoch": 3}


def prepare(device: str, entries: int) -> State:
    warnings.filterwarnings("ignore", category=FutureWarning)  # of FSDP1 and ShardedTensor
    strategy = (CPUStrategy if device == "cpu" else FSDPStrategy)(state_dict_type="sharded")
    fabric = Fabric(accelerator=device, devices=dist.get_world_size(), strategy=strategy)
    fabric.launch()
    model = make_model(entries)
    if device == "cpu":
        model = FSDP(model, device_id=torch.device(device), use_orig_params=True)
    model = fabric.setup(model)
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(model.parameters(), lr=1e-2))
    train(model, optimizer, device, fabric.backward)
    return State(fabric, model, optimizer)


def save(state: State, path: Path) -> None:
    state.fabric.save(path, state.saved())


def load(state: State, path: Path) -> None:
    state.fabric.load(path, state.saved())


def tensors(state: State) -> dict[str, torch.Tensor]:
    return tensors_of(state.model, state.optimizer)
