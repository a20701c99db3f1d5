"""What ``torch.distributed.checkpoint.filesystem`` has, natively."""

from __future__ import annotations

from .dcp.storage.filesystem import FileSystemReader, FileSystemWriter

__all__ = ["FileSystemReader", "FileSystemWriter"]
