"""Counts calls of twins and fallbacks over many processes.

Each process counts in its own memory-mapped file, so that counts survive ``os._exit`` and kills.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import mmap
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_NAMES = "names"
_CLASSES = "classes"
_SUFFIX = ".calls"
_FALLBACKS = ".fallbacks"
_WIDTH = 8


class _Slots:
    """One counter per function, in a file of this process."""

    def __init__(self, folder: str, length: int) -> None:
        self._folder = folder
        self._length = length
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # A forked child must not write to its parent's file or wait for its parent's lock.
        self._lock = threading.Lock()
        self._values: memoryview | None = None

    def add_one(self, slot: int) -> None:
        with self._lock:
            if self._values is None:
                self._values = self._mapped()
            self._values[slot] += 1

    def _mapped(self) -> memoryview:
        size = self._length * _WIDTH
        try:
            file, _ = tempfile.mkstemp(_SUFFIX, f"{os.getpid()}-", self._folder)
        except FileNotFoundError:  # this process has outlived the test run
            return memoryview(mmap.mmap(-1, size)).cast("Q")
        try:
            os.ftruncate(file, size)
            return memoryview(mmap.mmap(file, size)).cast("Q")
        finally:
            os.close(file)


def _counting(function: Callable[..., Any], slots: _Slots, slot: int) -> Callable[..., Any]:
    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        slots.add_one(slot)
        return function(*args, **kwargs)

    return counted


def _name(function: Callable[..., Any]) -> str:
    """Returns the name under which shardplan offers a twin; else that of its definition."""
    name = function.__code__.co_name
    # Not __module__, which a twin of a method copies from upstream's method.
    module: str = function.__globals__["__name__"]
    public = f"shardplan.{module.rpartition('.')[2]}"
    if find_spec(public) is not None:
        offered = getattr(importlib.import_module(public), name, None)
        module = public if offered is function else module
    return f"{module}.{name}"


def _record_fallback(folder: str, reason: str, count: int) -> None:
    # One unbuffered write, so that nothing is lost if the process is killed.
    with (
        contextlib.suppress(FileNotFoundError),  # this process has outlived the test run
        open(os.path.join(folder, f"{os.getpid()}{_FALLBACKS}"), "a", encoding="utf-8") as file,
    ):
        file.write(f"{count} {' '.join(reason.split())}\n")


def ask_for_classes(folder: str) -> None:
    """Makes ``install`` put shardplan's classes under upstream's names, in every process."""
    Path(folder, _CLASSES).touch()


def install(folder: str) -> None:
    """Installs the twins as ``register()`` does, and counts their calls in ``folder``."""
    from ..dcp import fallbacks, registration
    from ..dcp.twins import table

    fallbacks.observe(functools.partial(_record_fallback, folder))

    pairs = sorted(table.twins().items(), key=lambda pair: _name(pair[1]))
    names = Path(folder, _NAMES)
    if names.parent.is_dir() and not names.exists():
        file, draft = tempfile.mkstemp(dir=folder)
        with open(file, "w", encoding="utf-8") as stream:
            stream.writelines(f"{_name(ours)}\n" for _, ours in pairs)
        os.replace(draft, names)
    slots = _Slots(folder, len(pairs))
    registration.install(
        {original: _counting(ours, slots, i) for i, (original, ours) in enumerate(pairs)}
    )
    if Path(folder, _CLASSES).exists():
        from . import classes

        classes.install()


def read_fallbacks(folder: str) -> Counter[str]:
    """Returns the fallbacks recorded in ``folder``, by reason."""
    found: Counter[str] = Counter()
    for file in Path(folder).glob(f"*{_FALLBACKS}"):
        for line in file.read_text(encoding="utf-8").splitlines():
            count, _, reason = line.partition(" ")
            found[reason] += int(count)
    return found


def read(folder: str) -> tuple[Counter[str], int]:
    """Returns the calls counted in ``folder`` by function, and the number of processes."""
    calls: Counter[str] = Counter()
    files = list(Path(folder).glob(f"*{_SUFFIX}"))
    for file in files:
        names = Path(folder, _NAMES).read_text(encoding="utf-8").splitlines()
        calls.update(dict(zip(names, memoryview(file.read_bytes()).cast("Q"), strict=True)))
    return +calls, len(files)
