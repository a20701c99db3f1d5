"""Installs functions in upstream's modules, and restores upstream's."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any

import torch.distributed as dist

from .. import wire as wire_module
from ..deadlines import dist_wrapper
from ..locks import ForkSafeLock
from ..storage import (
    filesystem,
    safetensors_metadata,  # noqa: F401 - its twins enter the table
)
from ..twins import table
from ..upstream import originals, replaced_names

logger = logging.getLogger(__name__)

_UPSTREAM_PACKAGE = "torch.distributed.checkpoint"
_lock = ForkSafeLock()
_current: Registration | None = None
_logged: tuple[str, ...] = ()  # the names in the last log line
_logged_unreached: set[str] = set()
_installed: dict[Callable[..., Any], Callable[..., Any]] = {}
# (module, name) outside of upstream's package that register() has replaced. A module that imported
# a twin from shardplan is not in it, and keeps the twin.
_imported: list[tuple[ModuleType, str]] = []
_at_unregister: list[Callable[[], None]] = []


@dataclasses.dataclass(frozen=True)
class Registration:
    """The result of ``register()``.

    Attributes:
        replaced: qualified names that now hold twins: those in torch's modules, and those in other
            modules that imported a function under its own name.
        unreached: qualified names in other modules that still hold upstream functions, because
            those modules keep them under other names.
    """

    replaced: tuple[str, ...]
    unreached: tuple[str, ...]


def _in_upstream_package(name: str) -> bool:
    return name == _UPSTREAM_PACKAGE or name.startswith(_UPSTREAM_PACKAGE + ".")


def _holders(
    functions: dict[Callable[..., Any], Callable[..., Any]],
) -> Iterator[tuple[ModuleType | type, str]]:
    """Yields (holder, name) of every loaded module or class that holds one of ``functions``.

    The classes are those whose methods have twins. Modules of shardplan are skipped.
    """
    by_id = {id(function) for function in functions}
    for cls in (
        originals.AsyncCheckpointProcess,
        originals.DefaultSavePlanner,
        originals.DefaultLoadPlanner,
        originals.FileSystemReader,
        originals.FileSystemWriter,
        originals.HuggingFaceStorageReader,
        originals.DistWrapper,
    ):
        for name, value in list(vars(cls).items()):
            if id(value) in by_id:
                yield cls, name
    # A module can have two names; multiprocessing also lists __main__ as __mp_main__.
    modules = {id(module): module for module in list(sys.modules.values())}
    for module in modules.values():
        if type(module) is not ModuleType or module.__name__.split(".")[0] == "shardplan":
            continue
        for name, value in list(vars(module).items()):
            if id(value) in by_id:
                yield module, name


def _swap(pairs: dict[Callable[..., Any], Callable[..., Any]]) -> Registration:
    replaced, unreached = [], []
    for holder, name in _holders(pairs):
        is_module = isinstance(holder, ModuleType)
        location = holder.__name__ if is_module else f"{holder.__module__}.{holder.__qualname__}"
        held = getattr(holder, name)
        if not _in_upstream_package(location):
            # Under another name, a module may keep upstream's function for its own purposes.
            if not isinstance(holder, ModuleType) or name != held.__name__:
                unreached.append(f"{location}.{name}")
                continue
            _imported.append((holder, name))
        setattr(holder, name, pairs[held])
        replaced.append(f"{location}.{name}")
    return Registration(tuple(sorted(replaced)), tuple(sorted(unreached)))


def _restore() -> None:
    originals_of = {ours: original for original, ours in _installed.items()}
    for holder, name in _holders(originals_of):
        if not isinstance(holder, ModuleType) or _in_upstream_package(holder.__name__):
            setattr(holder, name, originals_of[getattr(holder, name)])
    for module, name in _imported:
        held = vars(module).get(name)
        with contextlib.suppress(TypeError):  # A caller's value may not be hashable.
            if held in originals_of:
                setattr(module, name, originals_of[held])
    _imported.clear()


def _is_rank_zero() -> bool:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return os.environ.get("RANK", "0") == "0"


def _log(done: Registration) -> None:
    """Logs the names, once per process; those that were not reached, on rank 0 only."""
    global _logged
    logger.log(
        # The process that async_save starts registers again at each save.
        logging.DEBUG if done.replaced == _logged else logging.INFO,
        "shardplan replaced %d functions: %s",
        len(done.replaced),
        ", ".join(done.replaced),
    )
    _logged = done.replaced
    new = [name for name in done.unreached if name not in _logged_unreached]
    if new and _is_rank_zero():
        _logged_unreached.update(new)
        logger.warning(
            "shardplan could not replace %d functions, which these modules keep under other names: "
            "%s. Call shardplan.register() before the modules are imported, or start the program "
            "with `shardplan run`",
            len(new),
            ", ".join(new),
        )


def register(
    *, wire: bool = True, trust: bool = False, timeout: float | timedelta | None = None
) -> Registration:
    """Replaces functions in torch.distributed.checkpoint with their native twins.

    Saves and loads with no planner, an upstream planner or a subclass of one are then planned
    natively. Upstream's readers and writers, and their subclasses, read and write metadata
    natively, except for methods that a subclass overrides. Classes are never replaced, and neither
    are functions that a caller has put into torch's modules. Modules that imported an upstream
    function before, under its own name, get the twin, too. A second call also reaches modules that
    were loaded since the first.

    Args:
        wire: if true, ranks send plans and metadata as columns; otherwise as torch pickles them.
        trust: if true, upstream's readers load metadata that names unknown globals with ``pickle``,
            which can run arbitrary code; otherwise they reject it.
        timeout: seconds, or a timedelta, for which a rank waits at each step of a save or load for
            the ranks that have not arrived there. Then every rank raises a CheckpointException that
            names them, a late one too, and the process group can be used on. None waits without
            end, as upstream does. All ranks must give one, which need not be the same.

    Returns:
        The names that were replaced and those that could not be reached. They are logged, too.

    Raises:
        ValueError: ``timeout`` is not a positive number of seconds.
    """
    seconds = _seconds(timeout)
    wire_module.refuse(not wire)
    filesystem.trust(trust)
    dist_wrapper.set_timeout(seconds)
    return install(table.twins() | (dist_wrapper.TWINS if seconds is not None else {}))


def _seconds(timeout: float | timedelta | None) -> float | None:
    if timeout is None:
        return None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
    return seconds


def install(pairs: dict[Callable[..., Any], Callable[..., Any]]) -> Registration:
    """Installs the given twins as ``register()`` does.

    Args:
        pairs: upstream function -> its replacement.
    """
    global _current
    with _lock:
        replaced_names.add_ours(pairs.values())
        _installed.update(pairs)
        wire_module.install()
        done = _swap(pairs)
        before = _current.replaced if _current is not None else ()
        _current = Registration(tuple(sorted({*before, *done.replaced})), done.unreached)
        _log(_current)
        return _current


def is_registered() -> bool:
    """Returns whether ``register()`` is in force."""
    return _current is not None


def at_unregister(function: Callable[[], None]) -> None:
    """Has ``unregister()`` call a function, after it has restored upstream's."""
    _at_unregister.append(function)


def unregister() -> None:
    """Restores all upstream functions; does nothing if ``register()`` was not called.

    The process that ``async_save`` keeps does the same before its next save.
    """
    global _current
    with _lock:
        _restore()
        wire_module.uninstall()
        wire_module.refuse(False)
        filesystem.trust(False)
        dist_wrapper.set_timeout(None)
        _installed.clear()
        _current = None
        for function in _at_unregister:
            function()


@contextlib.contextmanager
def registered(
    *, wire: bool = True, trust: bool = False, timeout: float | timedelta | None = None
) -> Iterator[Registration]:
    """Context manager that calls ``register()`` and, at its end, ``unregister()``.

    If shardplan is registered already, the settings of the outer registration stay in force.

    Args:
        wire: see ``register``.
        trust: see ``register``.
        timeout: see ``register``.
    """
    outer = _current is not None
    done = register(
        wire=wire and not (outer and wire_module.refused()),
        trust=filesystem.trusts() if outer else trust,
        timeout=dist_wrapper.timeout() if outer else timeout,
    )
    try:
        yield done
    finally:
        if not outer:
            unregister()
