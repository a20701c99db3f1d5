"""Where a checkpoint is: a directory, an fsspec URL, or the metadata file of one rank."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from ... import _core
from ...diagnosis.streams import readinto_of
from ..display.terminal import Progress
from ..failures import INSTALL, CommandError
from .recognised import head_of, what_it_is

_METADATA = ".metadata"


class Folder:
    """The files of a local directory."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, name: str) -> BinaryIO:
        return open(os.path.join(self.path, name), "rb")

    def size(self, name: str) -> int:
        return os.stat(os.path.join(self.path, name)).st_size

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path))

    def is_file(self, name: str) -> bool:
        return os.path.isfile(os.path.join(self.path, name))

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Bytes of those of these files that exist."""
        found = {}
        for name in names:
            try:
                if self.is_file(name):
                    found[name] = self.size(name)
            except (OSError, ValueError):
                continue
        return found


class RemoteFolder(Folder):
    """The files of an fsspec URL."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise CommandError(f"{url} needs fsspec:  {INSTALL}") from error
        try:
            self._fs, path = fsspec.core.url_to_fs(url)
        # What a file system raises is its own affair: no credentials, no such option.
        except Exception as error:
            raise CommandError(f"{url} cannot be opened: {error}") from error
        super().__init__(path)

    def _at(self, name: str) -> str:
        return posixpath.join(self.path, name)

    def open(self, name: str) -> BinaryIO:
        with _reaching():
            return cast(BinaryIO, self._fs.open(self._at(name), "rb"))

    def size(self, name: str) -> int:
        with _reaching():
            return int(self._fs.size(self._at(name)))

    def names(self) -> list[str]:
        with _reaching():
            listed = self._fs.ls(self.path, detail=False)
        return sorted(posixpath.basename(str(name)) for name in listed)

    def is_file(self, name: str) -> bool:
        with _reaching():
            return bool(self._fs.isfile(self._at(name)))

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        # One listing, not a request a file.
        wanted = {posixpath.normpath(self._at(name)): name for name in names}
        with _reaching():
            listed: dict[str, Any] = self._fs.find(self.path, detail=True)
        return {
            wanted[path]: int(entry["size"])
            for path, entry in listed.items()
            if path in wanted and entry["size"] is not None
        }


@contextlib.contextmanager
def _reaching() -> Iterator[None]:
    """File systems of others raise what they like (no credentials, no network): an OSError here."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose metadata was read.

    whole: whether it is that of all ranks, not one rank's of a save without collectives
    """

    name: str
    folder: Folder
    metadata_file: str
    metadata_bytes: int
    checkpoint: _core.Checkpoint
    whole: bool

    def sizes(self) -> dict[str, int]:
        """Bytes of the files that the metadata names, those that exist inside the checkpoint."""
        names = [name for name, *_ in self.checkpoint.files()]
        return self.folder.sizes(name for name in names if stays_inside(name))


def stays_inside(name: str) -> bool:
    """Whether a file's name cannot lead out of its checkpoint."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def open_checkpoint(name: str) -> Opened:
    """Reads the metadata of a checkpoint. Nothing that it names is called.

    ``CommandError`` says what is missing, or which file was not read and why.
    """
    folder, file, path = _find(name)
    head = b""
    try:
        size = folder.size(file)
        with folder.open(file) as stream, Progress(f"reading {file}", size) as progress:
            try:
                checkpoint = _core.Checkpoint(_counting(stream, progress))
            except ValueError:
                head = head_of(stream)
                raise
    except ValueError as error:
        why = what_it_is(head, path) or str(error)
        raise CommandError(f"{path} was not read: it {why}") from error
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error}") from error
    return Opened(name, folder, file, size, checkpoint, file == _METADATA)


def _counting(stream: BinaryIO, progress: Progress) -> Callable[[memoryview], int]:
    readinto = readinto_of(stream)

    def read(buffer: memoryview) -> int:
        with _reaching():
            count = readinto(buffer)
        progress.advance(count)
        return count

    return read


def _find(name: str) -> tuple[Folder, str, str]:
    """The folder of a checkpoint, its metadata file, and that file as the user would name it."""
    folder: Folder
    if "://" in name or "::" in name:
        base, _, last = name.rstrip("/").rpartition("/")
        if last.endswith(_METADATA):
            return RemoteFolder(base), last, name
        folder = RemoteFolder(name)
    elif os.path.isfile(name):
        return Folder(os.path.dirname(name) or "."), os.path.basename(name), name
    elif not os.path.isdir(name):
        is_there = os.path.lexists(name)
        why = "is neither a file nor a directory" if is_there else "no such directory"
        raise CommandError(f"{name}{' ' if is_there else ': '}{why}")
    else:
        folder = Folder(name)
    try:
        if folder.is_file(_METADATA):
            return folder, _METADATA, posixpath.join(name, _METADATA)
        names = folder.names()
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error}") from error
    raise CommandError(_why_none(name, names))


def _why_none(name: str, names: list[str]) -> str:
    of_ranks = [each for each in names if each.startswith("__") and each.endswith(_METADATA)]
    if of_ranks:
        return (
            f"{name} has no .metadata, but one a rank, of a save without collectives: name one, "
            f"such as {posixpath.join(name, of_ranks[0])}"
        )
    if f"{_METADATA}.tmp" in names:
        return f"{name} has a .metadata.tmp and no .metadata: a save that did not finish"
    if any(each.endswith(".distcp") for each in names):
        return f"{name} has data files and no .metadata: a save that did not finish"
    if any(each.endswith((".safetensors", ".safetensors.index.json")) for each in names):
        return f"{name} has safetensors files and no .metadata: it is no checkpoint of DCP's own"
    return f"{name} has no .metadata: it is no checkpoint of torch.distributed.checkpoint"
