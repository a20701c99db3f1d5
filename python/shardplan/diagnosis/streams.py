"""Reading from streams and from fsspec file systems. Nothing here imports torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

ReadRange = Callable[[str, int, int], Any]
"""Returns the bytes of a file from one offset to another."""


def readinto_of(stream: Any) -> Callable[[memoryview], int]:
    """Returns ``stream.readinto``, or an equivalent for a stream that has only ``read``."""
    if hasattr(stream, "readinto"):
        found: Callable[[memoryview], int] = stream.readinto
        return found

    def readinto(buffer: memoryview) -> int:
        data = stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    return readinto


def range_reader(fs: Any) -> tuple[ReadRange, int]:
    """Returns a function that reads ranges of files, and how many threads may call it.

    Several threads may only if the file system is asynchronous: fsspec does not promise that others
    can be called by more than one.

    Args:
        fs: an fsspec file system.
    """

    def read_range(path: str, begin: int, end: int) -> Any:
        return fs.cat_file(path, start=begin, end=end)

    return read_range, sys.maxsize if fs.async_impl else 1
