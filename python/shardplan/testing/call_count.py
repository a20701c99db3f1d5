"""Counts the calls that our functions take, over many processes.

Each process adds to a file of its own that is mapped into memory, so that a count outlives a
process that ends with ``os._exit`` or is killed.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

_NAMES = "names"
_SUFFIX = ".calls"
_FALLBACKS = ".fallbacks"
_WIDTH = 8


class _Slots:
    """One number for each function, in a file of this process."""

    def __init__(self, folder: str, length: int) -> None:
        self._folder = folder
        self._length = length
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # A forked child must neither write into its parent's file nor wait for a lock held there.
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
        except FileNotFoundError:  # this process has outlived the run that counts
            return memoryview(mmap.mmap(-1, size)).cast("Q")
        try:
            os.ftruncate(file, size)
            return memoryview(mmap.mmap(file, size)).cast("Q")
        finally:
            os.close(file)


def _counted(function: Callable[..., Any], slots: _Slots, slot: int) -> Callable[..., Any]:
    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        slots.add_one(slot)
        return function(*args, **kwargs)

    return counted


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__.removeprefix('shardplan.dcp.twins.')}.{function.__name__}"


def _note_fallback(folder: str, reason: str, count: int) -> None:
    # One write to the file of this process, so that nothing is lost with it.
    with (
        contextlib.suppress(FileNotFoundError),  # the process has outlived the run that counts
        open(os.path.join(folder, f"{os.getpid()}{_FALLBACKS}"), "a", encoding="utf-8") as file,
    ):
        file.write(f"{count} {' '.join(reason.split())}\n")


def install(folder: str) -> None:
    """Does what ``register()`` does, with functions that count their calls in ``folder``."""
    from ..dcp import fallbacks, registration
    from ..dcp.twins import table

    fallbacks.observe(functools.partial(_note_fallback, folder))

    pairs = sorted(table.twins().items(), key=lambda pair: _name(pair[1]))
    names = Path(folder, _NAMES)
    if names.parent.is_dir() and not names.exists():
        file, draft = tempfile.mkstemp(dir=folder)
        with open(file, "w", encoding="utf-8") as stream:
            stream.writelines(f"{_name(ours)}\n" for _, ours in pairs)
        os.replace(draft, names)
    slots = _Slots(folder, len(pairs))
    registration.install(
        {original: _counted(ours, slots, i) for i, (original, ours) in enumerate(pairs)}
    )


def read_fallbacks(folder: str) -> Counter[str]:
    """What fell back to upstream's code in the processes of ``folder``, by reason."""
    found: Counter[str] = Counter()
    for file in Path(folder).glob(f"*{_FALLBACKS}"):
        for line in file.read_text(encoding="utf-8").splitlines():
            count, _, reason = line.partition(" ")
            found[reason] += int(count)
    return found


def read(folder: str) -> tuple[Counter[str], int]:
    """Calls counted in ``folder`` by function, and the number of processes that made them."""
    calls: Counter[str] = Counter()
    files = list(Path(folder).glob(f"*{_SUFFIX}"))
    for file in files:
        names = Path(folder, _NAMES).read_text(encoding="utf-8").splitlines()
        calls.update(dict(zip(names, memoryview(file.read_bytes()).cast("Q"), strict=True)))
    return +calls, len(files)
