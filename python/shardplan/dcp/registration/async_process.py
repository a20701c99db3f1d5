"""Takes a registration along into the process that ``async_save`` starts."""

from __future__ import annotations

import functools
from typing import Any

from torch.distributed.checkpoint.planner import SavePlanner

from .. import wire
from ..twins.table import answers
from ..upstream import originals
from .registry import register


class _Travelling:
    """A planner, or none, that registers shardplan where it arrives; there it is itself again."""

    def __init__(self, planner: SavePlanner | None) -> None:
        self._planner = planner

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self._planner, not wire.refused())


def _arrive(planner: SavePlanner | None, wire: bool) -> SavePlanner | None:
    register(wire=wire)
    return planner


@answers(originals.async_process_save)
@functools.wraps(originals.async_process_save)
def save(*args: Any, planner: SavePlanner | None = None, **kwargs: Any) -> Any:
    """Asks the checkpoint process to save, on our functions.

    Answers to ``_async_process_executor._AsyncCheckpointProcess.save``.
    """
    return originals.async_process_save(*args, planner=_Travelling(planner), **kwargs)  # type: ignore[arg-type]
