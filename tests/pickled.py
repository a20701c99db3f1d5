"""The globals that a pickle names."""

from __future__ import annotations

import io
import pickle
from typing import Any


class _Recording(pickle.Unpickler):
    def __init__(self, pickled: bytes) -> None:
        super().__init__(io.BytesIO(pickled))
        self.names: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.names.add(f"{module} {name}")
        return super().find_class(module, name)


def globals_of(pickled: bytes) -> set[str]:
    """Returns the modules and names that a pickle imports."""
    unpickler = _Recording(pickled)
    unpickler.load()
    return unpickler.names
