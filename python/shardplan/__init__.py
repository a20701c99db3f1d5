"""Native planning for torch.distributed.checkpoint.

Importing this module alone does not import torch; its names do, when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._build import build_info

if TYPE_CHECKING:
    __version__: str

    from ._fallbacks import fallbacks
    from ._fsspec_filesystem import FsspecReader, FsspecWriter
    from ._registry import Registration, register, registered, unregister
    from ._reports import report_of
    from .default_planner import DefaultLoadPlanner, DefaultSavePlanner
    from .filesystem import FileSystemReader, FileSystemWriter

__all__ = [
    "DefaultLoadPlanner",
    "DefaultSavePlanner",
    "FileSystemReader",
    "FileSystemWriter",
    "FsspecReader",
    "FsspecWriter",
    "Registration",
    "build_info",
    "fallbacks",
    "register",
    "registered",
    "report_of",
    "unregister",
]

_HOMES = {
    "DefaultLoadPlanner": "default_planner",
    "DefaultSavePlanner": "default_planner",
    "FileSystemReader": "filesystem",
    "FileSystemWriter": "filesystem",
    "FsspecReader": "_fsspec_filesystem",
    "FsspecWriter": "_fsspec_filesystem",
    "Registration": "_registry",
    "fallbacks": "_fallbacks",
    "register": "_registry",
    "registered": "_registry",
    "report_of": "_reports",
    "unregister": "_registry",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return build_info()["shardplan"]
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module(f"{__name__}._fit")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
