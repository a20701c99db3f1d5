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
    if storage or checkpoint_id is None or made is None:
        return made
    ours: Any = _ours_for(type(made))
    if ours is None:
        return made
    made = ours(checkpoint_id, trust=_trusting) if reader else ours(checkpoint_id)
    made.reset(checkpoint_id)
    return made


def _ours_for(stock: type) -> type | None:
    """Our class for a stock one."""
    if stock in (filesystem.FileSystemReader, filesystem.FileSystemWriter):
        return FileSystemReader if stock is filesystem.FileSystemReader else FileSystemWriter
    if stock.__name__ not in ("FsspecReader", "FsspecWriter"):
        return None
    # Where fsspec is not installed, stock makes none of these.
    from torch.distributed.checkpoint import _fsspec_filesystem as stock_module

    from . import _fsspec_filesystem

    ours: type | None = getattr(_fsspec_filesystem, stock.__name__)
    return ours if stock is getattr(stock_module, stock.__name__) else None
