"""Twins of ``torch.distributed.checkpoint._fsspec_filesystem``.

Arguments and files are those of upstream.
"""

from __future__ import annotations

import os
from typing import Any

from torch.distributed.checkpoint import _fsspec_filesystem

from .filesystem import ColumnsReader, ColumnsWriter

__all__ = ["FsspecReader", "FsspecWriter"]


class FsspecWriter(ColumnsWriter, _fsspec_filesystem.FsspecWriter):
    """``torch.distributed.checkpoint.FsspecWriter``, which writes metadata natively."""


class FsspecReader(ColumnsReader, _fsspec_filesystem.FsspecReader):
    """``torch.distributed.checkpoint.FsspecReader``, which reads metadata natively.

    Args:
        path: URL of the checkpoint.
        trust: see ``FileSystemReader``.
        kwargs: further arguments of upstream's reader.
    """

    def __init__(self, path: str | os.PathLike[str], *, trust: bool = False, **kwargs: Any) -> None:
        super().__init__(path, **kwargs)
        self.trust = trust
