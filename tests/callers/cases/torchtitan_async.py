"""The same as ``torchtitan``, but saved in the background; the time is that until it is saved."""

from __future__ import annotations

from pathlib import Path

from . import torchtitan
from .torchtitan import State, load, tensors

__all__ = ["load", "prepare", "save", "tensors"]

PACKAGE = "torchtitan"
REQUIREMENTS = ("torchtitan==0.3.0",)
WHAT = '`CheckpointManager` with `async_mode="async"`, `save` and the wait for it'


def prepare(device: str, entries: int) -> State:
    return torchtitan.start(device, entries, "async")


def save(state: State, path: Path) -> None:
    torchtitan.save(state, path)
    state.manager.maybe_wait_for_saving()
