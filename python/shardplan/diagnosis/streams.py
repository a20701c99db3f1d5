"""Reading of streams; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def readinto_of(stream: Any) -> Callable[[memoryview], int]:
    """How to read into a buffer: pickle needs no more than ``read`` of a stream."""
    if hasattr(stream, "readinto"):
        found: Callable[[memoryview], int] = stream.readinto
        return found

    def readinto(buffer: memoryview) -> int:
        data = stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    return readinto
