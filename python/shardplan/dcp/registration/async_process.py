"""Passes the registration on to the process that ``async_save`` starts."""

from __future__ import annotations

import functools
from typing import Any

from torch.distributed.checkpoint.planner import SavePlanner

from .. import wire
from ..twins.table import twin_of
from ..upstream import originals
from .registry import register


class _RegisteringPlanner:
    """Wraps a planner, or None. Unpickling it calls ``register()`` and returns the planner."""

    def __init__(self, planner: SavePlanner | None) -> None:
        self._planner = planner

    def __reduce__(self) -> tuple[Any, ...]:
        return _register_and_return, (self._planner, not wire.refused())


def _register_and_return(planner: SavePlanner | None, wire: bool) -> SavePlanner | None:
    register(wire=wire)
    return planner


@twin_of(originals.async_process_save)
@functools.wraps(originals.async_process_save)
def save(*args: Any, planner: SavePlanner | None = None, **kwargs: Any) -> Any:
    """Sends a save to the checkpoint process, which registers shardplan first.

    Twin of ``_async_process_executor._AsyncCheckpointProcess.save``.
    """
    return originals.async_process_save(*args, planner=_RegisteringPlanner(planner), **kwargs)  # type: ignore[arg-type]
