"""Passes a registration, and its end, on to the process that ``async_save`` keeps."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from torch.distributed.checkpoint import _async_process_executor
from torch.distributed.checkpoint.planner import SavePlanner

from .. import wire
from ..deadlines import dist_wrapper
from ..twins.table import twin_of
from ..upstream import originals
from .registry import at_unregister, is_registered, register, unregister


class _RegisteringPlanner:
    """Wraps a planner, or None. Unpickling it calls ``register()`` and returns the planner."""

    def __init__(self, planner: SavePlanner | None) -> None:
        self._planner = planner

    def __reduce__(self) -> tuple[Any, ...]:
        return _register_and_return, (self._planner, not wire.refused(), dist_wrapper.timeout())


class _UnregisteringPlanner(_RegisteringPlanner):
    """Wraps a planner, or None. Unpickling it calls ``unregister()`` and returns the planner."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _unregister_and_return, (self._planner,)


def _register_and_return(
    planner: SavePlanner | None, wire: bool, timeout: float | None
) -> SavePlanner | None:
    register(wire=wire, timeout=timeout)
    return planner


def _unregister_and_return(planner: SavePlanner | None) -> SavePlanner | None:
    unregister()
    return planner


# Set on a checkpoint process that was told to register.
_IS_REGISTERED = "_shardplan_is_registered"


@twin_of(originals.async_process_save)
@functools.wraps(originals.async_process_save)
def save(*args: Any, planner: SavePlanner | None = None, **kwargs: Any) -> Any:
    """Sends a save to the checkpoint process, which registers shardplan first.

    Twin of ``_async_process_executor._AsyncCheckpointProcess.save``.
    """
    setattr(args[0], _IS_REGISTERED, True)
    return originals.async_process_save(*args, planner=_RegisteringPlanner(planner), **kwargs)  # type: ignore[arg-type]


def _save_unregistered(
    reference: Callable[[], Any], *args: Any, planner: Any = None, **kwargs: Any
) -> Any:
    """Sends the first save after ``unregister()`` to a process that is registered."""
    process = reference()
    del process.save
    if is_registered():
        return save(process, *args, planner=planner, **kwargs)
    delattr(process, _IS_REGISTERED)
    planner = _UnregisteringPlanner(planner)
    return originals.async_process_save(process, *args, planner=planner, **kwargs)


def _unregister_process() -> None:
    process: Any = getattr(_async_process_executor, "_CHECKPOINT_PROCESS", None)
    if hasattr(process, _IS_REGISTERED):
        process.save = functools.partial(_save_unregistered, weakref.ref(process))


at_unregister(_unregister_process)
