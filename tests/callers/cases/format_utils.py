"""The converters of torch.distributed.checkpoint from and to a file of ``torch.save``.

A save turns such a file into a checkpoint, and a load turns the checkpoint into another file.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save, torch_save_to_dcp

from ..training import make_model, train

PACKAGE = "torch"
WHAT = "`torch_save_to_dcp` and `dcp_to_torch_save`, one process"
RANKS = (1,)
#: The converters move no tensor to a GPU, and `dcp_to_torch_save` makes tensors of the CPU.
DEVICES = ("cpu",)


@dataclasses.dataclass
class State:
    folder: tempfile.TemporaryDirectory[str]
    values: dict[str, Any]

    @property
    def source(self) -> Path:
        return Path(self.folder.name, "source.pt")

    @property
    def target(self) -> Path:
        return Path(self.folder.name, "target.pt")


def prepare(device: str, entries: int) -> State:
    model = make_model(entries).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(model, optimizer, device)
    values = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    state = State(tempfile.TemporaryDirectory(prefix="shardplan-callers-"), values)
    torch.save(values, state.source)
    return state


def save(state: State, path: Path) -> None:
    torch_save_to_dcp(state.source, path)


def load(state: State, path: Path) -> None:
    dcp_to_torch_save(path, state.target)
    state.values = torch.load(state.target)


def tensors(state: State) -> dict[str, torch.Tensor]:
    found = {f"model.{name}": tensor for name, tensor in state.values["model"].items()}
    for index, values in state.values["optimizer"]["state"].items():
        found.update({f"optimizer.{index}.{name}": value for name, value in values.items()})
    return found
