"""TorchTitan's checkpoint manager, constructed and called as its Trainer does it.

The Trainer itself runs on a GPU only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import IterableDataset
from torchtitan.components.checkpointer import CheckpointManager
from torchtitan.components.dataloader import ParallelAwareDataloader
from torchtitan.components.optimizer import (
    LRSchedulersContainer,
    OptimizersContainer,
    default_adamw,
)

from ..training import ENTRIES_PER_LAYER, WIDTH, make_model, tensors_of

PACKAGE = "torchtitan"
REQUIREMENTS = ("torchtitan==0.3.0",)
WHAT = "`CheckpointManager`, FSDP2 + `OptimizersContainer`, `save` and `load`"
STEPS = 2
#: Each setting of AdamW and the first learning rate are saved for every parameter.
PER_LAYER = ENTRIES_PER_LAYER + 2 * 12


class Batches(IterableDataset[torch.Tensor]):
    """The same data on every rank."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield from torch.randn(3 * STEPS, WIDTH, generator=torch.Generator().manual_seed(1))


@dataclasses.dataclass
class TrainState(Stateful):
    """What TorchTitan's Trainer saves of itself."""

    step: int = 0
    ntokens_seen: int = 0

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "ntokens_seen": self.ntokens_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.step = state_dict["step"]
        self.ntokens_seen = state_dict["ntokens_seen"]


@dataclasses.dataclass
class State:
    manager: CheckpointManager
    model: nn.Module
    optimizers: OptimizersContainer
    trained: TrainState


def start(device: str, entries: int, async_mode: str) -> State:
    """Builds what is saved in the order in which the Trainer builds it, and trains."""
    ranks = dist.get_world_size()
    model = make_model(-(-entries * ENTRIES_PER_LAYER // PER_LAYER)).to(device)
    fully_shard(model, mesh=init_device_mesh(device, (ranks,)))
    optimizers = default_adamw(lr=1e-2).build(model_parts=[model])
    schedulers = LRSchedulersContainer.Config(warmup_steps=1).build(
        optimizers=optimizers, training_steps=100
    )
    trained = TrainState()
    loader = ParallelAwareDataloader(Batches(), dist.get_rank(), ranks, batch_size=3)
    manager = CheckpointManager.Config(enable=True, interval=1, async_mode=async_mode).build(
        dataloader=loader,
        model_parts=[model],
        optimizers=optimizers,
        lr_schedulers=schedulers,
        states={"train_state": trained},
        sd_adapter=None,
    )
    for batch in loader:
        optimizers.zero_grad()
        model(batch.to(device)).square().mean().backward()
        optimizers.step()
        schedulers.step()
        trained.step += 1
        trained.ntokens_seen += batch.numel() * ranks
    optimizers.zero_grad()
    return State(manager, model, optimizers, trained)


def prepare(device: str, entries: int) -> State:
    return start(device, entries, "disabled")


def save(state: State, path: Path) -> None:
    # A training keeps its checkpoints in one folder. Here each of them has a folder of its own.
    state.manager.folder = str(path)
    assert state.manager.save(state.trained.step)


def load(state: State, path: Path) -> None:
    state.manager.folder = str(path)
    assert state.manager.load()
    assert state.trained.step == STEPS


def tensors(state: State) -> dict[str, torch.Tensor]:
    (optimizer,) = state.optimizers
    return tensors_of(state.model, optimizer)
