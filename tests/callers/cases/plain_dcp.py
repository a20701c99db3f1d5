"""FSDP2 and AdamW, saved and loaded as the tutorial of torch.distributed.checkpoint does it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ..training import make_model, tensors_of, train

PACKAGE = "torch"
WHAT = "FSDP2 + AdamW, `dcp.save` and `dcp.load`"


@dataclasses.dataclass
class State:
    model: nn.Module
    optimizer: torch.optim.Optimizer


def prepare(device: str, entries: int) -> State:
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    model = fully_shard(make_model(entries).to(device), mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(model, optimizer, device)
    return State(model, optimizer)


def state_dict(state: State) -> dict[str, Any]:
    model, optimizer = get_state_dict(state.model, state.optimizer)
    return {"model": model, "optimizer": optimizer}


def save(state: State, path: Path) -> None:
    dcp.save(state_dict(state), checkpoint_id=path)


def load(state: State, path: Path) -> None:
    loaded = state_dict(state)
    dcp.load(loaded, checkpoint_id=path)
    set_state_dict(
        state.model,
        state.optimizer,
        model_state_dict=loaded["model"],
        optim_state_dict=loaded["optimizer"],
    )


def tensors(state: State) -> dict[str, torch.Tensor]:
    return tensors_of(state.model, state.optimizer)
