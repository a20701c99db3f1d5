"""Twins of ``FileSystemReader.read_data`` and of the one for safetensors: native reading.

Native code reads what upstream would read with ``torch.load`` (or ``safe_open``) and copy: plain
tensors in local or fsspec files, into plain tensors. Byte entries, and every item that native code
does not read, are left to upstream's ``read_data``, and are counted unless they are byte entries.

Where a planner overrides a hook (``resolve_tensor``, ``commit_tensor`` and those that they call),
items are read one by one, between the calls of its hooks.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint._hf_utils import _HFStorageInfo
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from .. import fallbacks
from ..lazy.items import LazyList
from ..lazy.storage_data import StorageData
from ..native import native
from ..twins.table import twin_of
from ..upstream import hooks, originals, replaced_names
from .file_access import FileAccess, access_of
from .progress import progress_of
from .read_failures import ItemTracker, failure

MEMORY = 64 << 20
"""Maximum size in bytes of the buffers of a load, for all threads together."""


@twin_of(originals.reader_read_data)
@functools.wraps(originals.reader_read_data)
def read_data(
    reader: filesystem.FileSystemReader, plan: LoadPlan, planner: LoadPlanner
) -> Future[None]:
    """Reads the items of a plan.

    Args:
        reader: the storage reader. ``thread_count``, ``verify`` and ``progress`` are attributes of
            shardplan's readers; upstream's have the defaults.
        plan: the final plan of this rank.
        planner: its planner.

    Raises:
        RuntimeError: a file ends too early or, with ``verify``, a checksum is wrong. The message
            has the tensor, the file and the byte, and the tensors that were not read.
        OSError: the file system fails.
    """
    load = _Load(reader, plan, planner, originals.reader_read_data)
    if replaced_names.READ_DATA.untouched("read data"):
        return load.run(access_of(reader.fs, reader.path), _why_upstream_loads(reader))
    return load.upstream()


@twin_of(originals.hf_reader_read_data)
@functools.wraps(originals.hf_reader_read_data)
def read_safetensors(
    reader: originals.HuggingFaceStorageReader, plan: LoadPlan, planner: LoadPlanner
) -> Future[None]:
    """Reads the items of a plan from safetensors files.

    Twin of ``HuggingFaceStorageReader.read_data``. If native code does not read a file, upstream
    reads it, or raises.

    Args:
        reader: see ``read_data``. The files have no checksums.
        plan: see ``read_data``.
        planner: see ``read_data``.

    Raises:
        AssertionError: a target does not have the size of its item.
        OSError: the file system fails.
    """
    load = _Load(reader, plan, planner, originals.hf_reader_read_data, native.SafetensorsHeaders())
    if replaced_names.HF_READ_DATA.untouched("read data"):
        why = None
        if type(reader)._process_read_request is not originals.hf_reader_process_read_request:
            why = "the reader overrides _process_read_request"
        return load.run(access_of(reader.fs, reader.path), why)
    return load.upstream()


def _why_upstream_loads(reader: filesystem.FileSystemReader) -> str | None:
    """Returns the reason why upstream has to read all items with ``torch.load``, or None."""
    if type(reader)._slice_file is not originals.reader_slice_file:
        return "the reader overrides _slice_file"
    if type(reader.transforms) is not originals.StorageReaderTransforms:
        return f"the transforms are a {fallbacks.kind_of(reader.transforms)}"
    if torch.serialization.get_default_load_endianness() is not None:
        return "torch.serialization.set_default_load_endianness was called"
    if _maps_files():
        return "torch.utils.serialization.config.load.mmap is set"
    return None


def _maps_files() -> bool:
    """Returns whether ``torch.load`` maps files by default, which fails for streams."""
    return bool(torch.utils.serialization.config.load.mmap)


_HOOKS: dict[str, Callable[..., Any]] = {
    "resolve_tensor": originals.planner_resolve_tensor,
    "lookup_tensor": originals.planner_lookup_tensor,
    "transform_tensor": originals.planner_transform_tensor,
    "commit_tensor": originals.planner_commit_tensor,
}


@dataclass(frozen=True)
class _Load:
    """The load of a plan.

    Attributes:
        reader: the storage reader.
        plan: the final plan of this rank.
        planner: its planner.
        read_data: upstream's function, for the items that native code does not read.
        safetensors: headers of the files if these are safetensors files; None if ``torch.save``
            has written a part for each tensor.
    """

    reader: filesystem.FileSystemReader
    plan: LoadPlan
    planner: LoadPlanner
    read_data: Callable[..., Future[None]]
    safetensors: native.SafetensorsHeaders | None = None

    def upstream(self) -> Future[None]:
        """Leaves all items to upstream."""
        return self.read_data(self.reader, self.plan, self.planner)

    def run(self, access: FileAccess | None, why_upstream: str | None) -> Future[None]:
        """Reads all items.

        Args:
            access: how to read the files; None if native code cannot.
            why_upstream: why upstream has to read all items, or None.
        """
        if access is None:
            why_upstream = f"the file system is a {fallbacks.kind_of(self.reader.fs)}"
        elif self.safetensors is not None and access.read_range is not None:
            why_upstream = "safetensors files that are not local"
        elif hooks.mode_is_active():
            why_upstream = "a torch function mode or dispatch mode is active"
        if access is None or why_upstream is not None:
            fallbacks.count_operation(f"read data: {why_upstream}")
            return self.upstream()
        if hooks.are_upstreams(self.planner, _HOOKS):
            self._read_planned(access)
        else:
            self._read_one_by_one(access)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def _directory(self, access: FileAccess) -> str:
        """Returns the directory to which the paths of locations are relative."""
        return access.directory if self.safetensors is None else ""

    def _settings(self, access: FileAccess) -> dict[str, Any]:
        threads = getattr(self.reader, "thread_count", None) or access.threads
        return {
            "threads": min(threads, access.max_threads),
            "memory": MEMORY,
            "verify": getattr(self.reader, "verify", False),
            "read_range": access.read_range,
            "safetensors": self.safetensors,
        }

    def _read_planned(self, access: FileAccess) -> None:
        """Reads all items at once, and then those that are left to upstream."""
        reader, plan = self.reader, self.plan
        storage = self._locations()
        progress = progress_of(getattr(reader, "progress", False), "loading")
        report = None
        if storage is not None:
            report = native.load_planned(
                plan.items,
                storage,
                self.planner.state_dict,  # type: ignore[attr-defined]
                self.planner.lookup_tensor,  # type: ignore[attr-defined]
                access.encoded(self._directory(access)),
                progress=progress,
                **self._settings(access),
            )
        if report is None:
            fallbacks.count_operation("read data: a location is not plain")
            self.upstream()
            return
        if report.failure is not None:
            position, what, code, exception = report.failure
            items = plan.items
            unreached = [items[at] for at in report.unreached]
            raise failure(reader, items[position], what, code, exception, unreached, len(items))
        if progress is not None:
            progress(report.bytes_wanted, report.bytes_wanted)
        for _, reason, _ in report.left:
            if reason:
                fallbacks.count_entries(f"read data: {reason}")
        if report.left:
            details = {position: detail for position, _, detail in report.left}
            items = _items_at(plan.items, list(details), self.planner)
            self._read_with_upstream(items, self.planner, list(details.values()))

    def _locations(self) -> native.StorageColumns | None:
        """Returns columns with the plain locations of the plan's items; None on fallback."""
        storage_data = self.reader.storage_data
        if self.safetensors is not None:
            return native.hf_storage_columns(storage_data) if type(storage_data) is dict else None
        if type(storage_data) is StorageData and (columns := storage_data.columns()) is not None:
            return columns
        wanted = {item.storage_index: storage_data[item.storage_index] for item in self.plan.items}
        if (columns := native.storage_columns(wanted)) is not None:
            return columns
        # Columns have neither transformed streams nor objects that two items share.
        located = ((index, _plain_location(info)) for index, info in wanted.items())
        return native.storage_columns({index: info for index, info in located if info is not None})

    def _read_with_upstream(
        self, items: list[ReadItem], planner: LoadPlanner | _Resolved, details: list[str]
    ) -> None:
        """Reads items with upstream's ``read_data``.

        Args:
            planner: this load's, or one that stands for it.
            details: per item: what native code found unusual about its part, or "".
        """
        tracker = ItemTracker(planner, items, details)  # type: ignore[arg-type]
        with tracker.naming_the_item(self.reader):
            fallbacks.upstream(
                self.read_data,
                self.reader,
                dataclasses.replace(self.plan, items=items),
                tracker,
            )

    def _read_one_by_one(self, access: FileAccess) -> None:
        """Reads items in upstream's order, each between the calls of the planner's hooks."""
        reader, planner = self.reader, self.planner
        settings = self._settings(access)
        for item in self._in_upstreams_order():
            if item.type == LoadItemType.BYTE_IO:
                self._read_with_upstream([item], planner, [""])
                continue
            location = _plain_location(reader.storage_data[item.storage_index])
            target = planner.resolve_tensor(item).detach()
            report = None
            if location is not None:
                report = native.load_box(
                    access.encoded(os.path.join(self._directory(access), location.relative_path)),
                    item.storage_index.fqn,
                    location.offset,
                    location.length,
                    list(item.storage_offsets),
                    list(item.lengths),
                    target,
                    **settings,
                )
            if report is not None and report.failure is not None:
                _, what, code, exception = report.failure
                raise failure(reader, item, what, code, exception, [item], len(self.plan.items))
            if report is None or report.left:
                unread = "the location is not plain"
                reason, detail = report.left[0][1:] if report is not None else (unread, "")
                fallbacks.count_entries(f"read data: {reason}")
                self._read_with_upstream([item], _Resolved(planner, target), [detail])
            else:
                planner.commit_tensor(item, target)

    def _in_upstreams_order(self) -> Iterator[ReadItem]:
        by_file: dict[str, list[ReadItem]] = {}
        for item in self.plan.items:
            path = self.reader.storage_data[item.storage_index].relative_path
            by_file.setdefault(path, []).append(item)
        for items in by_file.values():
            yield from items


def _plain_location(info: Any) -> _StorageInfo | None:
    """Returns the location of a part or file; None if native code cannot read it."""
    if type(info) is _HFStorageInfo:
        return _StorageInfo(info.relative_path, 0, 0)  # the file's header has the bytes
    if type(info) is not _StorageInfo or info.transform_descriptors:
        return None
    return _StorageInfo(info.relative_path, info.offset, info.length)


def _items_at(items: list[ReadItem], positions: list[int], planner: LoadPlanner) -> list[ReadItem]:
    """Returns some items of a plan. Does not materialize the others if no caller can tell."""
    if (
        type(items) is LazyList
        and items.columns is not None
        and type(planner).load_bytes is originals.planner_load_bytes
    ):
        return native.read_items_at(items, positions)
    return [items[position] for position in positions]


class _Resolved:
    """A planner whose ``resolve_tensor`` has been called for the next item."""

    def __init__(self, planner: LoadPlanner, target: torch.Tensor) -> None:
        self._planner = planner
        self._target = target

    def resolve_tensor(self, item: ReadItem) -> torch.Tensor:
        return self._target

    def commit_tensor(self, item: ReadItem, tensor: torch.Tensor) -> None:
        self._planner.commit_tensor(item, tensor)
