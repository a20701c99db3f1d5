"""Native versions of the names in ``torch.distributed.checkpoint.filesystem``."""

from __future__ import annotations

from .dcp.storage.filesystem import FileSystemReader, FileSystemWriter

__all__ = ["FileSystemReader", "FileSystemWriter"]
