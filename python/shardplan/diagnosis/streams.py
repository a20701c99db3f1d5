"""Reading from streams. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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
