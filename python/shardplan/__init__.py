"""Native planning for torch.distributed.checkpoint.

Importing this package does not import torch; the first use of one of its names does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._build import build_info

if TYPE_CHECKING:
    __version__: str

    from .dcp.fallbacks import fallbacks
    from .dcp.planners.load import DefaultLoadPlanner
    from .dcp.planners.save import DefaultSavePlanner
    from .dcp.registration import Registration, register, registered, unregister
    from .dcp.reports.report_of import report_of
    from .dcp.storage.filesystem import FileSystemReader, FileSystemWriter
    from .dcp.storage.fsspec_filesystem import FsspecReader, FsspecWriter
    from .dcp.storage.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

__all__ = [
    "DefaultLoadPlanner",
    "DefaultSavePlanner",
    "FileSystemReader",
    "FileSystemWriter",
    "FsspecReader",
    "FsspecWriter",
    "HuggingFaceStorageReader",
    "HuggingFaceStorageWriter",
    "Registration",
    "build_info",
    "fallbacks",
    "register",
    "registered",
    "report_of",
    "unregister",
]

_HOMES = {
    "DefaultLoadPlanner": "dcp.planners.load",
    "DefaultSavePlanner": "dcp.planners.save",
    "FileSystemReader": "dcp.storage.filesystem",
    "FileSystemWriter": "dcp.storage.filesystem",
    "FsspecReader": "dcp.storage.fsspec_filesystem",
    "FsspecWriter": "dcp.storage.fsspec_filesystem",
    "HuggingFaceStorageReader": "dcp.storage.hf_storage",
    "HuggingFaceStorageWriter": "dcp.storage.hf_storage",
    "Registration": "dcp.registration",
    "fallbacks": "dcp.fallbacks",
    "register": "dcp.registration",
    "registered": "dcp.registration",
    "report_of": "dcp.reports.report_of",
    "unregister": "dcp.registration",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return build_info()["shardplan"]
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
