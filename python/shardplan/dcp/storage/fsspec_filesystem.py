"""Twins of ``torch.distributed.checkpoint._fsspec_filesystem``: same arguments, same files."""

from __future__ import annotations

import os
from typing import Any

from torch.distributed.checkpoint import _fsspec_filesystem

from .filesystem import ColumnsReader, ColumnsWriter

__all__ = ["FsspecReader", "FsspecWriter"]


class FsspecWriter(ColumnsWriter, _fsspec_filesystem.FsspecWriter):
    """``torch.distributed.checkpoint.FsspecWriter``, whose metadata is no Python objects."""


class FsspecReader(ColumnsReader, _fsspec_filesystem.FsspecReader):
    """``torch.distributed.checkpoint.FsspecReader``, whose metadata is no Python objects.

    trust: as of ``FileSystemReader``
    """

    def __init__(self, path: str | os.PathLike[str], *, trust: bool = False, **kwargs: Any) -> None:
        super().__init__(path, **kwargs)
        self.trust = trust
