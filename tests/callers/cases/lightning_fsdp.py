"""Lightning Fabric with its strategy for FSDP1, whose sharded state dicts have ShardedTensors."""

from __future__ import annotations

import warnings

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.strategies import FSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

from ..training import make_model, train
from .lightning_fabric import State, load, save, tensors

__all__ = ["load", "prepare", "save", "tensors"]

PACKAGE = "lightning"
REQUIREMENTS = ("lightning==2.6.6",)
WHAT = "Fabric, `FSDPStrategy` with FSDP1 + AdamW, `fabric.save` and `fabric.load`"


class CPUStrategy(FSDPStrategy):
    """The same. On a CPU, Fabric refuses that class itself, and takes one that is derived from it.

    Fabric wraps a model for a GPU only, but takes one that its user has wrapped.
    """


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
