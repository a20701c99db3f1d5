"""How native code reads and writes files: local files by descriptor, others through fsspec."""

from __future__ import annotations

import fcntl
import io
import os
import sys
import warnings
from dataclasses import dataclass
from typing import Any

from torch.distributed.checkpoint import filesystem

from ...diagnosis.streams import ReadRange, range_reader
from ..upstream import versions

_MAX_THREADS = 16
_REQUESTS = 16
"""Requests to an object store at the same time, as far as memory allows."""


@dataclass(frozen=True)
class FileAccess:
    """How native code reads the files of a checkpoint.

    Attributes:
        directory: path or URL of the directory, with a final slash.
        threads: number of threads by default.
        max_threads: number of threads that the file system allows.
        read_range: reads a range of a file that is not local; None for local files.
    """

    directory: str
    threads: int
    max_threads: int = sys.maxsize
    read_range: ReadRange | None = None

    def encoded(self, path: str) -> str | bytes:
        """Returns a path for native code. The name of a local file may not be UTF-8."""
        return os.fsencode(path) if self.read_range is None else path


def default_thread_count() -> int:
    """Returns the number of threads that a load from local files uses by default.

    It is the number of CPUs that this process may use, divided by the number of processes that
    torchrun started on this node; at most 16.
    """
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cpus = os.cpu_count() or 1
    local_ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    divisor = int(local_ranks) if local_ranks.isdecimal() else 1
    return max(1, min(_MAX_THREADS, cpus // max(1, divisor)))


def access_of(fs: filesystem.FileSystemBase, path: str | os.PathLike[str]) -> FileAccess | None:
    """Returns how to read files of a reader's file system; None if only upstream can.

    Args:
        fs: the ``fs`` of upstream's or of shardplan's reader.
        path: its path or URL.
    """
    if type(fs) is filesystem.FileSystem:
        return FileAccess(os.path.join(os.fspath(path), ""), default_thread_count())
    module = sys.modules.get("torch.distributed.checkpoint._fsspec_filesystem")
    if module is None or type(fs) is not module.FileSystem:
        return None
    return _fsspec_access(getattr(fs, "fs", None), os.fspath(path))


def _fsspec_access(fs: Any, path: str) -> FileAccess | None:
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    if not isinstance(fs, fsspec.AbstractFileSystem):
        return None
    if type(fs) is LocalFileSystem:
        return FileAccess(os.path.join(fs._strip_protocol(path), ""), default_thread_count())
    read_range, max_threads = range_reader(fs)
    threads = min(_REQUESTS, max_threads)
    return FileAccess(os.path.join(path, ""), threads, max_threads, read_range)


def descriptor_of(stream: Any) -> int | None:
    """Returns the descriptor of a stream if it is a local file that is written anywhere, or None.

    Args:
        stream: what the file system's ``create_stream`` has opened for writing.
    """
    module = sys.modules.get("fsspec.implementations.local")
    if module is not None and type(stream) is module.LocalFileOpener:
        stream = stream.f
    if type(stream) is not io.BufferedWriter or type(stream.raw) is not io.FileIO:
        return None
    if not stream.seekable() or fcntl.fcntl(stream, fcntl.F_GETFL) & os.O_APPEND:
        return None
    return stream.fileno()


def sync(stream: Any) -> None:
    """Makes what was written to a stream durable, as far as the stream can.

    Upstream flushes the stream first only from torch 2.14 on. Without that, the last part of a file
    is not in the kernel yet when it is synced.
    """
    warns = versions.unsupported_fsync_warns()
    if warns or hasattr(stream, "flush"):
        stream.flush()
    try:
        os.fsync(stream.fileno())
    except (AttributeError, io.UnsupportedOperation) as error:
        if warns:
            warnings.warn(
                f"fsync not supported for this stream, relying on flush(): {error}", stacklevel=2
            )
        else:
            os.sync()
