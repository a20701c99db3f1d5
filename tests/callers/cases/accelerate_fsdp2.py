"""Accelerate with its FSDP2 plugin: ``save_state`` and ``load_state`` with sharded state dicts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin, PartialState
from accelerate.utils import DistributedType
from torch import nn

from ..training import make_model, tensors_of, train

PACKAGE = "accelerate"
REQUIREMENTS = ("accelerate==1.15.0",)
WHAT = "FSDP2 plugin + AdamW, `save_state` and `load_state`"


@dataclasses.dataclass
class State:
    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer


def make_accelerator(device: str) -> Accelerator:
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, state_dict_type="SHARDED_STATE_DICT", cpu_ram_efficient_loading=False
    )
    if device != "cpu":
        return Accelerator(fsdp_plugin=plugin)
    # Accelerate leaves FSDP out on a CPU. This sets what it sets on a GPU.
    accelerator = Accelerator(cpu=True)
    for state in (PartialState(), accelerator.state):
        state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = plugin
    return accelerator


def prepare(device: str, entries: int) -> State:
    accelerator = make_accelerator(device)
    model = make_model(entries)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model, optimizer = accelerator.prepare(model, optimizer)
    train(model, optimizer, device)
    return State(accelerator, model, optimizer)


def save(state: State, path: Path) -> None:
    state.accelerator.save_state(str(path))


def load(state: State, path: Path) -> None:
    state.accelerator.load_state(str(path))


def tensors(state: State) -> dict[str, torch.Tensor]:
    return tensors_of(state.model, state.optimizer)
