"""Keeps two processes from saving into one directory at once.

Two saves that overwrite each other's files leave a checkpoint of which every part can be read and
which is of neither. The coordinator of a save holds a lock on the directory itself (``flock``, so
no file is added, and the lock ends with the process) from before the first byte is written until
its metadata has taken effect. Where the file system has no such lock, nothing is checked.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]


class _Held:
    """A locked directory: its (device, inode), and the descriptor that holds the lock."""

    def __init__(self, directory: tuple[int, int], descriptor: int) -> None:
        self.directory = directory
        self.descriptor = descriptor


_lock = threading.Lock()
_held: dict[tuple[int, int], _Held] = {}
_by_writer: dict[int, _Held] = {}  # by the writer's id


def take(writer: object, path: str | os.PathLike[str]) -> None:
    """Locks the directory for the save of ``writer``, until ``release`` or the writer's end.

    A lock that this process holds already is taken over: a save that failed may have left it.

    Raises:
        RuntimeError: another process holds the lock.
    """
    if fcntl is None:
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    status = os.fstat(descriptor)
    held = _Held((status.st_dev, status.st_ino), descriptor)
    with _lock:
        _unlock(_held.get(held.directory))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise RuntimeError(
                f"another process is saving a checkpoint into {os.fspath(path)!r}: two saves into "
                f"one directory would mix their files. Save into another directory, or wait."
            ) from None
        except OSError:  # the file system has no locks
            os.close(descriptor)
            return
        _held[held.directory] = _by_writer[id(writer)] = held
    weakref.finalize(writer, _finalize, id(writer), held)


def release(writer: object) -> None:
    """Unlocks what ``take`` locked for this writer; does nothing if it holds nothing."""
    with _lock:
        _unlock(_by_writer.pop(id(writer), None))


def _finalize(writer_id: int, held: _Held) -> None:
    # The collector may run this inside `take`: what the lock guards is left alone then, for the
    # next `take` of the directory.
    if not _lock.acquire(blocking=False):
        return
    try:
        if _by_writer.get(writer_id) is held:
            del _by_writer[writer_id]
        _unlock(held)
    finally:
        _lock.release()


def _unlock(held: _Held | None) -> None:
    if held is None or _held.get(held.directory) is not held:
        return
    del _held[held.directory]
    with contextlib.suppress(OSError):
        # Not only closed: a forked child may have a copy of the descriptor.
        fcntl.flock(held.descriptor, fcntl.LOCK_UN)
        os.close(held.descriptor)
