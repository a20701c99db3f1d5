"""A checkpoint that appears at its path in one step, once all of it is written.

The ranks write into a sibling of the path, ``.NAME.shardplan-saving``. The coordinator then puts it
in the place of the path, where an older checkpoint may be. A save that fails or dies leaves the
sibling, and the next save to the same path empties it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

# `shardplan repair` keeps a metadata file that it replaces as `.metadata.broken`.
_OF_A_CHECKPOINT = re.compile(
    r"(__\d+)?\.metadata(\.tmp)?|\.metadata\.(merged|broken(\.\d+)?)|__\d+_\d+\.distcp"
)
_MAX_NAMED = 3
# Of Linux: <fcntl.h> and <linux/fs.h>.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_SUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}


def staging(path: str | os.PathLike[str]) -> Path:
    """Returns the directory in which a checkpoint for ``path`` is written.

    Raises:
        ValueError: the path is a root directory, which cannot be replaced.
    """
    return _sibling(path, "shardplan-saving")


def set_aside(path: str | os.PathLike[str]) -> Path:
    """Returns the directory to which an old checkpoint at ``path`` is moved.

    Raises:
        ValueError: the path is a root directory, which cannot be replaced.
    """
    return _sibling(path, "shardplan-replaced")


def _sibling(path: str | os.PathLike[str], suffix: str) -> Path:
    target = Path(os.path.realpath(path))
    if not target.name:
        raise ValueError(f"atomic=True cannot replace the directory {os.fspath(path)!r}")
    return target.with_name(f".{target.name}.{suffix}")


def prepare(path: str | os.PathLike[str]) -> None:
    """Removes what earlier saves to ``path`` have left in its staging directory.

    Raises:
        RuntimeError: ``path`` has files that are not of a checkpoint, which would be removed.
    """
    old, target = set_aside(path), os.path.realpath(path)
    if old.exists() and not os.path.lexists(target):
        old.rename(target)  # a save died between the two renames
    _check(path)
    for entry in staging(path).iterdir():
        _remove(entry)


def publish(path: str | os.PathLike[str], must_sync: bool) -> None:
    """Puts the staging directory in the place of ``path``, and removes what was there.

    If what was there cannot be removed, a warning is logged: the new checkpoint is in its place.

    Args:
        path: the path of the checkpoint.
        must_sync: whether the names in the directories are synced to permanent storage.

    Raises:
        RuntimeError: ``path`` has files that are not of a checkpoint.
        OSError: a rename failed. ``path`` is as it was.
    """
    target, written = Path(os.path.realpath(path)), staging(path)
    _check(path)
    if must_sync:
        sync_directory(written)
    if not target.exists():
        written.rename(target)
    elif not _exchange(written, target):
        _replace_in_two_steps(written, target)
    if must_sync:
        sync_directory(target.parent)
    for old in (written, set_aside(path)):
        try:
            if old.exists():
                _remove(old)
        except OSError as error:
            logger.warning("the replaced checkpoint %s cannot be removed: %s", old, error)


def put_in_place(path: str | os.PathLike[str]) -> Path | None:
    """Puts the staging directory in the place of ``path``, and removes nothing.

    Args:
        path: the path of the checkpoint.

    Returns:
        The directory in which what was at ``path`` is now; None if nothing was there.

    Raises:
        OSError: a rename failed, or the file system cannot exchange two directories and
            ``set_aside(path)`` already exists. ``path`` is as it was.
    """
    target, written, old = Path(os.path.realpath(path)), staging(path), set_aside(path)
    kept: Path | None = None
    if not os.path.lexists(target):
        written.rename(target)
    elif _exchange(written, target):
        kept = written
        if not os.path.lexists(old):
            kept = written.rename(old)
    elif os.path.lexists(old):
        raise FileExistsError(
            errno.EEXIST, "the file system cannot exchange two directories, and there is", str(old)
        )
    else:
        _replace_in_two_steps(written, target)
        kept = old
    sync_directory(target.parent)
    return kept


def check_files(path: str | os.PathLike[str], sizes: Mapping[str, int]) -> None:
    """Checks that all data is in the staging directory, as this process sees it.

    Args:
        path: the path of the checkpoint.
        sizes: least size in bytes of each file, by its path in the directory.

    Raises:
        RuntimeError: a file is missing or too short.
    """
    directory = staging(path)
    wrong = []
    for name, least in sizes.items():
        try:
            size = os.path.getsize(directory / name)
        except FileNotFoundError:
            wrong.append(f"{name} is missing")
        else:
            if size < least:
                wrong.append(f"{name} has {size} of {least} bytes")
    if wrong:
        raise RuntimeError(
            f"{os.fspath(directory)!r} does not have all data as the coordinator sees it: "
            f"{_first_few(wrong)}. atomic=True needs a file system that all ranks share."
        )


def other_files(path: str | os.PathLike[str]) -> list[str]:
    """Returns the names of what is in the directory ``path`` and is not a file of a checkpoint.

    That is the name of ``path`` itself if it is not a directory, and nothing if it does not exist.
    """
    if not os.path.exists(path):
        return []
    if not os.path.isdir(path):
        return [os.path.basename(path)]
    return [name for name in sorted(os.listdir(path)) if not _OF_A_CHECKPOINT.fullmatch(name)]


def _check(path: str | os.PathLike[str]) -> None:
    """Raises RuntimeError if something else than a checkpoint would be removed from ``path``."""
    if others := other_files(path):
        raise RuntimeError(
            f"atomic=True would remove files that are not of a checkpoint from "
            f"{os.fspath(path)!r}: {_first_few(others)}. Save into another directory, or move them."
        )


def _first_few(values: Sequence[object]) -> str:
    more = f" and {len(values) - _MAX_NAMED} more" if len(values) > _MAX_NAMED else ""
    return ", ".join(map(str, values[:_MAX_NAMED])) + more


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sync_directory(path: Path) -> None:
    """Syncs the names in a directory to permanent storage, if the file system can do that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems cannot sync a directory
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """Returns the function of the C library, if it has one."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    function: Callable[..., int] | None = getattr(library, "renameat2", None)
    return function


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two directories in one step. Returns False if the file system cannot do that."""
    rename = _renameat2()
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    error = ctypes.get_errno()
    if error in _NOT_SUPPORTED:
        return False
    raise OSError(error, os.strerror(error), os.fspath(one), None, os.fspath(other))


def _replace_in_two_steps(written: Path, target: Path) -> None:
    """Replaces a directory. Nothing is at ``target`` between the two renames."""
    old = set_aside(target)
    if old.exists():
        _remove(old)
    target.rename(old)
    try:
        written.rename(target)
    except OSError:
        old.rename(target)
        raise
