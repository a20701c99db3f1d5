"""FSDP1's sharded state dicts, with the loader for optimizers of torch.distributed.checkpoint.

Their tensors are ShardedTensors. The shards are uneven, and on four ranks one rank has none.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.optimizer import load_sharded_optimizer_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp import StateDictType

from ..training import make_model, tensors_of, train

PACKAGE = "torch"
WHAT = "FSDP1 + AdamW, ShardedTensors, `load_sharded_optimizer_state_dict`"


@dataclasses.dataclass
class State:
    model: FSDP
    optimizer: torch.optim.Optimizer
    device: str


def prepare(device: str, entries: int) -> State:
    warnings.filterwarnings("ignore", category=FutureWarning)  # of FSDP1 and ShardedTensor
    where = torch.device(device, torch.cuda.current_device() if device == "cuda" else None)
    model = FSDP(make_model(entries), device_id=where, use_orig_params=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(model, optimizer, device)
    return State(model, optimizer, device)


def save(state: State, path: Path) -> None:
    with FSDP.state_dict_type(state.model, StateDictType.SHARDED_STATE_DICT):
        saved = {
            "model": state.model.state_dict(),
            "optimizer": FSDP.optim_state_dict(state.model, state.optimizer),
        }
        dcp.save(saved, checkpoint_id=path)


def load(state: State, path: Path) -> None:
    with FSDP.state_dict_type(state.model, StateDictType.SHARDED_STATE_DICT):
        model = state.model.state_dict()
        dcp.load({"model": model}, checkpoint_id=path)
        state.model.load_state_dict(model)
        loaded = load_sharded_optimizer_state_dict(
            model_state_dict=model,
            optimizer_key="optimizer",
            storage_reader=dcp.FileSystemReader(path),
        )
        state.optimizer.load_state_dict(
            FSDP.optim_state_dict_to_load(state.model, state.optimizer, loaded["optimizer"])
        )


def tensors(state: State) -> dict[str, torch.Tensor]:
    return tensors_of(state.model, state.optimizer)
