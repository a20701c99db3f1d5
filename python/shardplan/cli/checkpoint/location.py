"""Opens a checkpoint: a directory, an fsspec URL, or a metadata file."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from ... import _core
from ...diagnosis.streams import ReadRange, range_reader, readinto_of
from ..display.terminal import Progress
from ..failures import INSTALL, CommandError
from .recognised import describe_format, head_of

METADATA = ".metadata"
_REQUESTS = 16


@dataclass(frozen=True)
class Access:
    """How native code reads a file.

    Attributes:
        path: path of the file, for ``read_range`` or for the system.
        read_range: returns the bytes from one offset to another; None for a local file.
        threads: number of threads that may read at the same time.
    """

    path: str | bytes
    read_range: ReadRange | None
    threads: int


class Folder:
    """A local directory."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, name: str) -> BinaryIO:
        return open(os.path.join(self.path, name), "rb")

    def access(self, name: str) -> Access:
        """Returns how native code reads a file."""
        return Access(
            os.fsencode(os.path.join(self.path, name)), None, min(_REQUESTS, os.cpu_count() or 1)
        )

    def size(self, name: str) -> int:
        return os.stat(os.path.join(self.path, name)).st_size

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path))

    def is_file(self, name: str) -> bool:
        return os.path.isfile(os.path.join(self.path, name))

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Returns the bytes of each of these files that exists."""
        found = {}
        for name in names:
            try:
                if self.is_file(name):
                    found[name] = self.size(name)
            except (OSError, ValueError):
                continue
        return found


class RemoteFolder(Folder):
    """A directory at an fsspec URL."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise CommandError(f"{url} needs fsspec:  {INSTALL}") from error
        try:
            self._fs, path = fsspec.core.url_to_fs(url)
        # A third-party file system may raise any exception.
        except Exception as error:
            raise CommandError(f"{url} cannot be opened: {error}") from error
        super().__init__(path)

    def _at(self, name: str) -> str:
        return posixpath.join(self.path, name)

    def open(self, name: str) -> BinaryIO:
        with _as_os_error():
            return cast(BinaryIO, self._fs.open(self._at(name), "rb"))

    def access(self, name: str) -> Access:
        read_range, max_threads = range_reader(self._fs)
        return Access(self._at(name), read_range, min(_REQUESTS, max_threads))

    def size(self, name: str) -> int:
        with _as_os_error():
            return int(self._fs.size(self._at(name)))

    def names(self) -> list[str]:
        with _as_os_error():
            listed = self._fs.ls(self.path, detail=False)
        return sorted(posixpath.basename(str(name)) for name in listed)

    def is_file(self, name: str) -> bool:
        with _as_os_error():
            return bool(self._fs.isfile(self._at(name)))

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        # One listing instead of one request per file.
        wanted = {posixpath.normpath(self._at(name)): name for name in names}
        with _as_os_error():
            listed: dict[str, Any] = self._fs.find(self.path, detail=True)
        return {
            wanted[path]: int(entry["size"])
            for path, entry in listed.items()
            if path in wanted and entry["size"] is not None
        }


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Context manager that converts any exception of a third-party file system to OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose metadata has been read.

    Attributes:
        name: the checkpoint as named by the user.
        folder: its directory.
        metadata_file: name of the metadata file.
        metadata_bytes: size of the metadata file.
        checkpoint: the parsed metadata.
        whole: whether the metadata is that of all ranks; false for the file of one rank, which a
            save without collectives writes.
    """

    name: str
    folder: Folder
    metadata_file: str
    metadata_bytes: int
    checkpoint: _core.Checkpoint
    whole: bool

    def sizes(self) -> dict[str, int]:
        """Returns the bytes of each file that the metadata names and that exists in the folder."""
        names = [name for name, *_ in self.checkpoint.files()]
        return self.folder.sizes(name for name in names if stays_inside(name))


def stays_inside(name: str) -> bool:
    """Returns whether a file name is a path within the checkpoint."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


class UnreadableMetadata(CommandError):
    """A metadata file was read, and it is broken or of another format."""


def open_checkpoint(name: str) -> Opened:
    """Reads the metadata of a checkpoint, without importing or calling anything that it names.

    Args:
        name: a directory, an fsspec URL, or a metadata file.

    Raises:
        UnreadableMetadata: the metadata file is broken.
        CommandError: there is no metadata file, or the system cannot read it.
    """
    folder, file, path = _find(name)
    return open_metadata(name, folder, file, path, file == METADATA)


def open_metadata(name: str, folder: Folder, file: str, path: str, whole: bool) -> Opened:
    """Reads a metadata file, without importing or calling anything that it names.

    Args:
        name: the checkpoint as named by the user.
        folder: its directory.
        file: name of the metadata file in the directory.
        path: path of the metadata file, for error messages.
        whole: whether the metadata is that of all ranks.

    Raises:
        UnreadableMetadata: the file is broken.
        CommandError: the system cannot read the file.
    """
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
        why = describe_format(head, path) or str(error)
        raise UnreadableMetadata(f"{path} was not read: it {why}") from error
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error}") from error
    return Opened(name, folder, file, size, checkpoint, whole)


def _counting(stream: BinaryIO, progress: Progress) -> Callable[[memoryview], int]:
    readinto = readinto_of(stream)

    def read(buffer: memoryview) -> int:
        with _as_os_error():
            count = readinto(buffer)
        progress.advance(count)
        return count

    return read


def _find(name: str) -> tuple[Folder, str, str]:
    """Returns the folder, the name of the metadata file, and the full path of that file."""
    folder: Folder
    if "://" in name or "::" in name:
        base, _, last = name.rstrip("/").rpartition("/")
        if last.endswith(METADATA):
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
        if folder.is_file(METADATA):
            return folder, METADATA, posixpath.join(name, METADATA)
        names = folder.names()
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error}") from error
    raise CommandError(why_no_metadata(name, names))


def why_no_metadata(name: str, names: list[str]) -> str:
    """Describes a directory without a metadata file.

    Args:
        name: the directory as named by the user.
        names: the names of its files.
    """
    of_ranks = [each for each in names if each.startswith("__") and each.endswith(METADATA)]
    if of_ranks:
        return (
            f"{name} has no .metadata, but one per rank, from a save without collectives: give one "
            f"of them, such as {posixpath.join(name, of_ranks[0])}, or merge them with "
            f"'shardplan repair'"
        )
    if f"{METADATA}.tmp" in names:
        return f"{name} has a .metadata.tmp and no .metadata: the save did not finish"
    if any(each.endswith(".distcp") for each in names):
        return f"{name} has data files and no .metadata: the save did not finish"
    if any(each.endswith((".safetensors", ".safetensors.index.json")) for each in names):
        return f"{name} has safetensors files and no .metadata: it is not a DCP checkpoint"
    return f"{name} has no .metadata: it is not a checkpoint of torch.distributed.checkpoint"
