"""Lightning's Trainer with its strategy for FSDP2: ``save_checkpoint``, and ``fit`` from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader

from ..training import WIDTH, Chain, make_model, tensors_of

PACKAGE = "lightning"
REQUIREMENTS = ("lightning==2.6.6",)
WHAT = "Trainer, FSDP2 + AdamW, `save_checkpoint` and `fit(ckpt_path=...)`"
STEPS = 2


class Module(LightningModule):
    """The model, sharded by the hook that Lightning calls for it before every training."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.entries = entries
        self.model: Chain | None = None

    def configure_model(self) -> None:
        if self.model is None:
            assert self.device_mesh is not None
            self.model = fully_shard(
                make_model(self.entries), mesh=self.device_mesh["data_parallel"]
            )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        assert self.model is not None
        return self.model(batch).square().mean()


@dataclasses.dataclass
class State:
    trainer: Trainer
    module: Module
    batches: DataLoader[torch.Tensor]


def prepare(device: str, entries: int) -> State:
    ranks = dist.get_world_size()
    trainer = Trainer(
        accelerator=device,
        devices=ranks,
        strategy=ModelParallelStrategy(data_parallel_size=ranks, tensor_parallel_size=1),
        max_steps=STEPS,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    torch.manual_seed(1)
    batches = DataLoader(list(torch.randn(3 * STEPS, WIDTH)), batch_size=3)
    module = Module(entries)
    trainer.fit(module, batches)
    # As in a new process: torch leaves an optimizer without its state if it finds gradients.
    module.zero_grad()
    return State(trainer, module, batches)


def save(state: State, path: Path) -> None:
    state.trainer.save_checkpoint(path)


def load(state: State, path: Path) -> None:
    # All steps of the checkpoint are done, so that nothing is trained after the load.
    state.trainer.fit(state.module, state.batches, ckpt_path=path)


def tensors(state: State) -> dict[str, torch.Tensor]:
    return tensors_of(state.module, state.trainer.optimizers[0])
