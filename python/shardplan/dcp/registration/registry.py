"""Puts our functions in the place of upstream's, and back."""

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
_logged: tuple[str, ...] = ()  # the names that were last logged
_installed: dict[Callable[..., Any], Callable[..., Any]] = {}


@dataclasses.dataclass(frozen=True)
class Registration:
    """What ``register()`` did.

    replaced: names in torch's modules that now hold our functions
    unreached: names in other modules that hold a function of upstream's, imported before; they
        keep it
    """

    replaced: tuple[str, ...]
    unreached: tuple[str, ...]


def _in_upstream_package(name: str) -> bool:
    return name == _UPSTREAM_PACKAGE or name.startswith(_UPSTREAM_PACKAGE + ".")


def _holders(
    wanted: dict[Callable[..., Any], Callable[..., Any]],
) -> Iterator[tuple[ModuleType | type, str]]:
    """Every place, ours apart, that holds one of the wanted functions: a loaded module, or the
    classes whose methods we replace."""
    by_id = {id(function) for function in wanted}
    for cls in (
        originals.AsyncCheckpointProcess,
        originals.DefaultSavePlanner,
        originals.DefaultLoadPlanner,
        originals.FileSystemReader,
        originals.FileSystemWriter,
    ):
        for name, value in list(vars(cls).items()):
            if id(value) in by_id:
                yield cls, name
    # Some modules have two names: multiprocessing calls __main__ __mp_main__ too.
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
        place = holder.__name__ if is_module else f"{holder.__module__}.{holder.__qualname__}"
        if _in_upstream_package(place):
            setattr(holder, name, pairs[getattr(holder, name)])
            replaced.append(f"{place}.{name}")
        else:
            unreached.append(f"{place}.{name}")
    return Registration(tuple(sorted(replaced)), tuple(sorted(unreached)))


def register(*, wire: bool = True, trust: bool = False) -> Registration:
    """Makes every caller of torch.distributed.checkpoint run on our functions.

    wire: whether plans and metadata travel between ranks as columns; if not, as torch pickles them
    trust: whether upstream's readers give a metadata file that names other globals than a
        checkpoint's metadata to ``pickle``, which runs what it says; if not, they refuse it

    Callers that pass no planner, an upstream planner or a subclass of one are planned natively from
    here on; upstream's readers and writers, and subclasses of them, read and write metadata
    natively, but for methods that a subclass overrides. Functions in torch's
    modules are replaced, never a class; a function that a caller put there is left alone. Can be
    called twice: the second call reaches modules that were loaded in between.

    Returns, and logs, what was replaced and what could not be reached.
    """
    wire_module.refuse(not wire)
    filesystem.trust(trust)
    return install(table.twins())


def install(pairs: dict[Callable[..., Any], Callable[..., Any]]) -> Registration:
    """Does what ``register()`` does, with these functions in place of upstream's."""
    global _current, _logged
    with _lock:
        replaced_names.add_ours(pairs.values())
        _installed.update(pairs)
        wire_module.install()
        done = _swap(pairs)
        before = _current.replaced if _current is not None else ()
        _current = Registration(tuple(sorted({*before, *done.replaced})), done.unreached)
        logger.log(
            # A process that async_save keeps registers at each save.
            logging.DEBUG if _current.replaced == _logged else logging.INFO,
            "shardplan replaced %d names: %s",
            len(_current.replaced),
            ", ".join(_current.replaced),
        )
        _logged = _current.replaced
        if _current.unreached:
            logger.warning(
                "shardplan could not reach %d names that were imported before register(): %s",
                len(_current.unreached),
                ", ".join(_current.unreached),
            )
        return _current


def unregister() -> None:
    """Puts every function of upstream's back; does nothing where ``register()`` was not called."""
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
    """``register()`` for the length of a ``with``; inside another one it changes nothing."""
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
