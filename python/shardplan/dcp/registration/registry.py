"""Installs functions in upstream's modules, and restores upstream's."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from .. import wire as wire_module
from ..storage import filesystem
from ..twins import table
from ..upstream import originals, replaced_names

logger = logging.getLogger(__name__)

_UPSTREAM_PACKAGE = "torch.distributed.checkpoint"
_lock = threading.RLock()
_current: Registration | None = None
_logged: tuple[str, ...] = ()  # the names in the last log line
_installed: dict[Callable[..., Any], Callable[..., Any]] = {}


@dataclasses.dataclass(frozen=True)
class Registration:
    """The result of ``register()``.

    Attributes:
        replaced: qualified names in torch's modules that now hold twins.
        unreached: qualified names in other modules that still hold upstream functions, because
            those modules imported them before ``register()``.
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
        if _in_upstream_package(location):
            setattr(holder, name, pairs[getattr(holder, name)])
            replaced.append(f"{location}.{name}")
        else:
            unreached.append(f"{location}.{name}")
    return Registration(tuple(sorted(replaced)), tuple(sorted(unreached)))


def register(*, wire: bool = True, trust: bool = False) -> Registration:
    """Replaces functions in torch.distributed.checkpoint with their native twins.

    Saves and loads with no planner, an upstream planner or a subclass of one are then planned
    natively. Upstream's readers and writers, and their subclasses, read and write metadata
    natively, except for methods that a subclass overrides. Classes are never replaced, and neither
    are functions that a caller has put into torch's modules. A second call also reaches modules
    that were loaded since the first.

    Args:
        wire: if true, ranks send plans and metadata as columns; otherwise as torch pickles them.
        trust: if true, upstream's readers load metadata that names unknown globals with ``pickle``,
            which can run arbitrary code; otherwise they reject it.

    Returns:
        The names that were replaced and those that could not be reached. They are logged, too.
    """
    wire_module.refuse(not wire)
    filesystem.trust(trust)
    return install(table.twins())


def install(pairs: dict[Callable[..., Any], Callable[..., Any]]) -> Registration:
    """Installs the given twins as ``register()`` does.

    Args:
        pairs: upstream function -> its replacement.
    """
    global _current, _logged
    with _lock:
        replaced_names.add_ours(pairs.values())
        _installed.update(pairs)
        wire_module.install()
        done = _swap(pairs)
        before = _current.replaced if _current is not None else ()
        _current = Registration(tuple(sorted({*before, *done.replaced})), done.unreached)
        logger.log(
            # The process that async_save starts registers again at each save.
            logging.DEBUG if _current.replaced == _logged else logging.INFO,
            "shardplan replaced %d functions: %s",
            len(_current.replaced),
            ", ".join(_current.replaced),
        )
        _logged = _current.replaced
        if _current.unreached:
            logger.warning(
                "shardplan could not replace %d functions that were imported before register(): %s",
                len(_current.unreached),
                ", ".join(_current.unreached),
            )
        return _current


def unregister() -> None:
    """Restores all upstream functions; does nothing if ``register()`` was not called."""
    global _current
    with _lock:
        _swap({ours: original for original, ours in _installed.items()})
        wire_module.uninstall()
        wire_module.refuse(False)
        filesystem.trust(False)
        _installed.clear()
        _current = None


@contextlib.contextmanager
def registered(*, wire: bool = True, trust: bool = False) -> Iterator[Registration]:
    """Context manager that calls ``register()`` and, at its end, ``unregister()``.

    If shardplan is registered already, the settings of the outer registration stay in force.

    Args:
        wire: see ``register``.
        trust: see ``register``.
    """
    outer = _current is not None
    done = register(
        wire=wire and not (outer and wire_module.refused()),
        trust=filesystem.trusts() if outer else trust,
    )
    try:
        yield done
    finally:
        if not outer:
            unregister()
