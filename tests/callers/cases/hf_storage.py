"""FSDP2 parameters in safetensors files, with the storage classes of torch for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ..training import Chain, local

PACKAGE = "safetensors"
REQUIREMENTS = ("safetensors==0.8.0",)
WHAT = "FSDP2 parameters, `HuggingFaceStorageWriter` and `HuggingFaceStorageReader`"


@dataclasses.dataclass
class State:
    model: nn.Module


def prepare(device: str, entries: int) -> State:
    torch.manual_seed(0)
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    return State(fully_shard(Chain(-(-entries // 2)).to(device), mesh=mesh))


def save(state: State, path: Path) -> None:
    writer = HuggingFaceStorageWriter(str(path), save_distributed=True)
    dcp.save(get_model_state_dict(state.model), storage_writer=writer)


def load(state: State, path: Path) -> None:
    loaded = get_model_state_dict(state.model)
    dcp.load(loaded, storage_reader=HuggingFaceStorageReader(str(path)))
    set_model_state_dict(state.model, loaded)


def tensors(state: State) -> dict[str, torch.Tensor]:
    return {name: local(value) for name, value in state.model.named_parameters()}
