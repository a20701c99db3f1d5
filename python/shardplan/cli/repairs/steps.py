"""The steps of a repair, each of which is a rename of something complete, and the locks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.location import METADATA
from ..failures import CommandError

TEMPORARY = f"{METADATA}.tmp"
_MERGED = f"{METADATA}.merged"


@dataclass(frozen=True)
class Step:
    """One step of a repair.

    Attributes:
        action: "keep", "rename", "merge", "put in place" or "put back".
        source: the file or directory that is moved; for "merge", the directory.
        target: where it is then.
        text: the step in words.
        do: does it.
    """

    action: str
    source: str
    target: str
    text: str
    do: Callable[[], None]

    def as_data(self) -> dict[str, Any]:
        """Returns the step as it appears in ``--json``."""
        return {"action": self.action, "from": self.source, "to": self.target, "text": self.text}


def storage() -> tuple[Any, Any]:
    """Returns the modules ``atomic_directory`` and ``directory_lock``, which do not import torch.

    Raises:
        CommandError: the installed torch is not the one that shardplan was built for.
    """
    try:
        from ...dcp.storage import atomic_directory, directory_lock
    except ImportError as error:
        raise CommandError(str(error)) from error
    return atomic_directory, directory_lock


def rename(folder: str, source: str, target: str) -> Step:
    """Returns the step that renames a file in a directory."""

    def do() -> None:
        _rename(folder, source, target)

    return Step("rename", source, target, f"rename {source} to {target}", do)


def keep(folder: str) -> list[Step]:
    """Returns the step that keeps ``.metadata`` under another name; none if there is no such file.

    Raises:
        CommandError: ``.metadata`` is not a file.
    """
    path = os.path.join(folder, METADATA)
    if not os.path.lexists(path):
        return []
    if not os.path.isfile(path):
        raise CommandError(f"{path} is not a file")
    target = free = f"{METADATA}.broken"
    number = 0
    while os.path.lexists(os.path.join(folder, free)):
        number += 1
        free = f"{target}.{number}"

    def do() -> None:
        _rename(folder, METADATA, free)

    return [Step("keep", METADATA, free, f"keep {METADATA} as {free}", do)]


def write_merged(folder: str, data: bytes, ranks: int) -> Step:
    """Returns the step that writes a metadata file that was merged from those of all ranks.

    Args:
        folder: the directory of the checkpoint.
        data: the bytes of the file.
        ranks: the number of ranks.
    """

    def do() -> None:
        with open(os.path.join(folder, _MERGED), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        _rename(folder, _MERGED, METADATA)

    what = f"__0{METADATA}" if ranks == 1 else f"__0{METADATA} to __{ranks - 1}{METADATA}"
    return Step("merge", what, METADATA, f"merge {what} into {METADATA}", do)


def _rename(folder: str, source: str, target: str) -> None:
    old, new = os.path.join(folder, source), os.path.join(folder, target)
    if os.path.lexists(new):
        raise CommandError(f"{new} has appeared meanwhile; nothing was replaced")
    os.rename(old, new)
    storage()[0].sync_directory(Path(folder))


def put_in_place(path: str) -> Step:
    """Returns the step that puts the staging directory of a save in the place of ``path``.

    Raises:
        CommandError: ``path`` has files that are not of a checkpoint.
    """
    atomic, _ = storage()
    staging = atomic.staging(path)
    text = f"rename {staging.name} to {os.path.basename(path)}"
    if others := atomic.other_files(path):
        raise CommandError(
            f"{staging} holds a sound checkpoint, but {path} also has files that are not of a "
            f"checkpoint, such as {others[0]}: move them, or rename the directory yourself"
        )
    if os.path.lexists(path):
        text += f", and keep what was there as {atomic.set_aside(path).name}"
        if os.path.lexists(atomic.set_aside(path)):
            text = f"exchange {staging.name} and {os.path.basename(path)}"

    def do() -> None:
        atomic.put_in_place(path)

    return Step("put in place", str(staging), path, text, do)


def put_back(path: str) -> Step:
    """Returns the step that puts a directory back that a save had moved away from ``path``."""
    atomic, _ = storage()
    old = atomic.set_aside(path)

    def do() -> None:
        os.rename(old, path)
        atomic.sync_directory(Path(path).parent)

    return Step(
        "put back", str(old), path, f"rename {old.name} back to {os.path.basename(path)}", do
    )


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Context manager that locks a checkpoint and its siblings as a save does.

    Args:
        path: the directory of the checkpoint.

    Raises:
        CommandError: a save holds one of the locks.
    """
    atomic, lock = storage()
    with contextlib.ExitStack() as locks:
        for each in (path, atomic.staging(path), atomic.set_aside(path)):
            try:
                locks.enter_context(lock.held(each))
            except RuntimeError as error:
                raise CommandError(
                    f"another process is saving or repairing a checkpoint in {each}: wait until it "
                    f"has ended"
                ) from error
        yield
