"""A lock that prevents two processes from saving into one directory at once.

Two concurrent saves would overwrite each other's files and leave a checkpoint that can be read but
mixes both. The coordinator of a save therefore locks the directory with ``flock`` before the first
byte is written, and releases it once the metadata file is in place. ``flock`` adds no file, and the
lock ends with the process. If the file system has no such lock, nothing is checked.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]


class _Held:
    """A lock that this process holds.

    Args:
        directory: (device, inode) of the directory.
        descriptor: file descriptor that holds the lock.
    """

    def __init__(self, directory: tuple[int, int], descriptor: int) -> None:
        self.directory = directory
        self.descriptor = descriptor


_lock = threading.Lock()
_held: dict[tuple[int, int], _Held] = {}
_by_writer: dict[int, _Held] = {}  # by the writer's id


def _forget() -> None:
    """In a forked child, the locks are the parent's."""
    global _lock
    _lock = threading.Lock()
    _held.clear()
    _by_writer.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def take(writer: object, path: str | os.PathLike[str], must_exist: bool = False) -> None:
    """Locks a directory for ``writer``, until ``release`` or until the writer is collected.

    A lock that this process already holds is taken over, because a failed save may have left it.

    Args:
        writer: the storage writer of the save.
        path: the directory of the checkpoint.
        must_exist: whether a directory that is missing counts as one that another process has
            taken; otherwise nothing is locked.

    Raises:
        RuntimeError: another process holds the lock.
    """
    if fcntl is None:
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        if must_exist:
            raise _refusal(path) from None
        return
    except OSError:
        return
    status = os.fstat(descriptor)
    held = _Held((status.st_dev, status.st_ino), descriptor)
    with _lock:
        _unlock(_held.get(held.directory))
        is_free = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = False
        except OSError:  # the file system has no locks
            os.close(descriptor)
            return
        if not is_free or not _is_at(path, status):
            os.close(descriptor)
            raise _refusal(path)
        _held[held.directory] = _by_writer[id(writer)] = held
    weakref.finalize(writer, _finalize, id(writer), held)


def _refusal(path: str | os.PathLike[str]) -> RuntimeError:
    return RuntimeError(
        f"another process is saving a checkpoint into {os.fspath(path)!r}, and two saves "
        f"into one directory would mix their files. Save into another directory, or wait."
    )


def _is_at(path: str | os.PathLike[str], status: os.stat_result) -> bool:
    """Whether a directory is still at its path. A save that has ended may have replaced it."""
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False


def release(writer: object) -> None:
    """Releases the lock of this writer, if it holds one."""
    with _lock:
        _unlock(_by_writer.pop(id(writer), None))


class _Holder:
    """Stands in for a writer."""


@contextlib.contextmanager
def held(path: str | os.PathLike[str]) -> Iterator[None]:
    """Context manager that locks a directory, beside what any writer has locked.

    Args:
        path: the directory. If it does not exist, nothing is locked.

    Raises:
        RuntimeError: another process holds the lock.
    """
    holder = _Holder()
    take(holder, path)
    try:
        yield
    finally:
        release(holder)


def _finalize(writer_id: int, held: _Held) -> None:
    # The collector may run this inside `take`, where `_lock` is held. The next `take` of the
    # directory then releases the lock.
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
        # Closing is not enough, because a forked child may have a copy of the descriptor.
        fcntl.flock(held.descriptor, fcntl.LOCK_UN)
        os.close(held.descriptor)
