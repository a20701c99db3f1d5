"""The same as ``plain_dcp``, but saved in the background; the time is that until it is saved."""

from __future__ import annotations

from pathlib import Path

import torch.distributed.checkpoint as dcp

from .plain_dcp import State, load, prepare, state_dict, tensors

__all__ = ["load", "prepare", "save", "tensors"]

PACKAGE = "torch"
WHAT = "FSDP2 + AdamW, `dcp.async_save` and its result"


def save(state: State, path: Path) -> None:
    dcp.async_save(state_dict(state), checkpoint_id=path).result()
