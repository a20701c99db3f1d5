"""Errors of ``read_data`` that name the tensor, the file, the byte, and what was not read."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint._hf_utils import _HFStorageInfo
from torch.distributed.checkpoint.planner import LoadPlanner, ReadItem

_MAX_NAMES = 10


def failure(
    reader: filesystem.FileSystemReader,
    item: ReadItem,
    what: str,
    code: int,
    exception: Exception | None,
    unreached: Sequence[ReadItem],
    count: int,
) -> Exception:
    """Returns the exception for an item that could not be read.

    Args:
        what: what happened to the file or part, a predicate without a subject.
        code: errno, or 0.
        exception: raised by the file system, in place of ``what`` and ``code``; or None.
        unreached: the items that were not read, or not all of them.
        count: the number of items in the plan.
    """
    where = f"tensor {item.storage_index.fqn!r}: {location_text(reader, item)}: {what}"
    rest = unreached_text(unreached, count)
    if exception is not None:
        where = f"while reading {item.storage_index.fqn!r} from {location_text(reader, item)}"
        add_note(exception, f"{where}; {rest}")
        return exception
    if code:
        path = path_of(reader, reader.storage_data[item.storage_index])
        error: Exception = OSError(code, os.strerror(code), path)
        add_note(error, f"{where}; {rest}")
        return error
    return RuntimeError(f"{where}; {rest}")


def location_text(reader: filesystem.FileSystemReader, item: ReadItem) -> str:
    """Returns the file of an item, and the bytes of its part if each item has one, in words."""
    location = reader.storage_data[item.storage_index]
    path = path_of(reader, location)
    if type(location) is _HFStorageInfo:
        return path
    end = location.offset + location.length
    return f"{path}, bytes {location.offset:,} to {end:,}"


def path_of(reader: filesystem.FileSystemReader, location: Any) -> str:
    """Returns the path of a file of the checkpoint."""
    if type(location) is _HFStorageInfo:  # which has the directory, too
        return str(location.relative_path)
    return str(reader.fs.concat_path(reader.path, location.relative_path))


def unreached_text(unreached: Sequence[ReadItem], count: int) -> str:
    """Returns which items were not read, in words."""
    names = list(dict.fromkeys(item.dest_index.fqn for item in unreached))
    named = ", ".join(repr(name) for name in names[:_MAX_NAMES])
    more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return f"{len(unreached):,} of {count:,} items were not read: {named}{more}"


def add_note(error: BaseException, note: str) -> None:
    """Adds a note to an exception, which Python shows since version 3.11."""
    if hasattr(error, "add_note"):
        error.add_note(note)


class ItemTracker:
    """A planner that passes calls on and keeps track of the items that upstream has read."""

    def __init__(
        self, planner: LoadPlanner, items: Sequence[ReadItem], details: Sequence[str]
    ) -> None:
        self._planner = planner
        self._left = {id(item): (item, detail) for item, detail in zip(items, details, strict=True)}

    def load_bytes(self, item: ReadItem, value: io.BytesIO) -> None:
        self._planner.load_bytes(item, value)
        self._left.pop(id(item), None)

    def resolve_tensor(self, item: ReadItem) -> torch.Tensor:
        return self._planner.resolve_tensor(item)

    def commit_tensor(self, item: ReadItem, tensor: torch.Tensor) -> None:
        self._planner.commit_tensor(item, tensor)
        self._left.pop(id(item), None)

    @contextmanager
    def naming_the_item(self, reader: filesystem.FileSystemReader) -> Iterator[None]:
        """Adds a note to an exception of upstream: which item failed, and what native code found.

        Upstream reads file by file, in the order in which the items name the files.
        """
        count = len(self._left)
        try:
            yield
        except Exception as error:
            by_file: dict[str, list[tuple[ReadItem, str]]] = {}
            for item, detail in self._left.values():
                path = reader.storage_data[item.storage_index].relative_path
                by_file.setdefault(path, []).append((item, detail))
            if by_file:
                item, detail = next(iter(by_file.values()))[0]
                found = f": the part {detail}" if detail else ""
                add_note(
                    error,
                    f"while reading {item.storage_index.fqn!r} from "
                    f"{location_text(reader, item)}{found}; "
                    + unreached_text([item for item, _ in self._left.values()], count),
                )
            raise
