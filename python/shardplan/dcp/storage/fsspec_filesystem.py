"""Twins of ``torch.distributed.checkpoint._fsspec_filesystem``.

Arguments and files are those of upstream.
"""

from __future__ import annotations

import os
from typing import Any

from torch.distributed.checkpoint import _fsspec_filesystem

from .filesystem import ColumnsReader, ColumnsWriter, signature_with_options
from .progress import Progress

__all__ = ["FsspecReader", "FsspecWriter"]


class FsspecWriter(ColumnsWriter, _fsspec_filesystem.FsspecWriter):
    """``torch.distributed.checkpoint.FsspecWriter``, which writes metadata and tensors natively.

    The files are upstream's, byte for byte. The streams of the file system get blocks of about a
    megabyte.

    Args:
        args: arguments of upstream's writer.
        progress: see ``FileSystemWriter``.
        kwargs: arguments of upstream's writer.
    """

    def __init__(self, *args: Any, progress: bool | Progress = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress = progress


FsspecWriter.__signature__ = signature_with_options(  # type: ignore[attr-defined]
    _fsspec_filesystem.FsspecWriter, FsspecWriter
)


class FsspecReader(ColumnsReader, _fsspec_filesystem.FsspecReader):
    """``torch.distributed.checkpoint.FsspecReader``, which reads metadata and tensors natively.

    Tensors are read in ranges of up to 16 MiB with ``AbstractFileSystem.cat_file``. A local file
    system is read as ``FileSystemReader`` reads it.

    Args:
        path: URL of the checkpoint.
        trust: see ``FileSystemReader``.
        thread_count: the number of requests at the same time, as far as they share 64 MiB of
            memory; 16 by default. Always 1 unless the file system is asynchronous.
        verify: see ``FileSystemReader``.
        progress: see ``FileSystemReader``.
        kwargs: further arguments of upstream's reader.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        trust: bool = False,
        thread_count: int | None = None,
        verify: bool = False,
        progress: bool | Progress = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(path, **kwargs)
        self._set_options(trust, thread_count, verify, progress)
