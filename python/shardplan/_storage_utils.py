"""Twin of ``torch.distributed.checkpoint._storage_utils``."""

from __future__ import annotations

from . import _fit  # noqa: F401

# isort: split
import os
from typing import Any

from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter

from . import _stock
from .filesystem import FileSystemReader, FileSystemWriter

_trusting = False


def trust(trusting: bool) -> None:
    """Whether readers that ``dcp.load`` makes by itself trust what they read."""
    global _trusting
    _trusting = trusting


def trusts() -> bool:
    """Whether they do."""
    return _trusting


def _storage_setup(
    storage: StorageReader | StorageWriter | None,
    checkpoint_id: str | os.PathLike[str] | None,
    reader: bool = False,
) -> StorageReader | StorageWriter | None:
    """The reader or writer of ``dcp.load`` or ``dcp.save``: where none is given, one of ours.

    Answers to ``_storage_utils._storage_setup``.
    """
    made = _stock.storage_setup(storage, checkpoint_id, reader)
    cls = None if storage or made is None else _ours_for(type(made))
    if cls is None:
        return made
    ours: StorageReader | StorageWriter
    ours = cls(checkpoint_id, trust=_trusting) if reader else cls(checkpoint_id)
    ours.reset(checkpoint_id)
    return ours


def _ours_for(stock: type) -> Any:
    """Our class for a stock one, or None."""
    if stock is filesystem.FileSystemReader:
        return FileSystemReader
    if stock is filesystem.FileSystemWriter:
        return FileSystemWriter
    if stock.__module__ != "torch.distributed.checkpoint._fsspec_filesystem":
        return None
    # Imported here: fsspec may not be installed, and then stock makes none of these.
    from . import _fsspec_filesystem

    return getattr(_fsspec_filesystem, stock.__name__, None)
