"""Twin of ``FileSystemReader.read_data``: tensors are read natively.

Native code reads what upstream would read with ``torch.load`` and copy: plain tensors in local or
fsspec files, into plain tensors. Byte entries, and every item that native code does not read, are
left to upstream's ``read_data``, and are counted unless they are byte entries.

Where a planner overrides a hook (``resolve_tensor``, ``commit_tensor`` and those that they call),
items are read one by one, between the calls of its hooks.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future
from torch.utils._device import DeviceContext

from .. import fallbacks
from ..lazy.items import LazyList
from ..lazy.storage_data import StorageData
from ..native import native
from ..twins.table import twin_of
from ..upstream import originals, replaced_names
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
    if not replaced_names.READ_DATA.untouched("read data"):
        return originals.reader_read_data(reader, plan, planner)
    access = access_of(reader.fs, reader.path)
    if access is None:
        reason: str | None = f"the file system is a {fallbacks.kind_of(reader.fs)}"
    else:
        reason = _why_upstream(reader)
    if access is None or reason is not None:
        fallbacks.count_operation(f"read data: {reason}")
        return originals.reader_read_data(reader, plan, planner)
    if _has_upstream_hooks(planner):
        _read_planned(reader, access, plan, planner)
    else:
        _read_one_by_one(reader, access, plan, planner)
    future: Future[None] = Future()
    future.set_result(None)
    return future


def _why_upstream(reader: filesystem.FileSystemReader) -> str | None:
    """Returns the reason why upstream has to read all items, or None."""
    if type(reader)._slice_file is not originals.reader_slice_file:
        return "the reader overrides _slice_file"
    if type(reader.transforms) is not originals.StorageReaderTransforms:
        return f"the transforms are a {fallbacks.kind_of(reader.transforms)}"
    if torch.serialization.get_default_load_endianness() is not None:
        return "torch.serialization.set_default_load_endianness was called"
    if _maps_files():
        return "torch.utils.serialization.config.load.mmap is set"
    modes = torch.overrides._get_current_function_mode_stack()
    if any(type(mode) is not DeviceContext for mode in modes):
        return "a torch function mode is active"
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


def _has_upstream_hooks(planner: LoadPlanner) -> bool:
    own = getattr(planner, "__dict__", {})
    return all(
        getattr(type(planner), name, None) is hook and name not in own
        for name, hook in _HOOKS.items()
    )


def _settings(reader: filesystem.FileSystemReader, access: FileAccess) -> dict[str, Any]:
    threads = getattr(reader, "thread_count", None) or access.threads
    return {
        "threads": min(threads, access.max_threads),
        "memory": MEMORY,
        "verify": getattr(reader, "verify", False),
        "read_range": access.read_range,
    }


def _read_planned(
    reader: filesystem.FileSystemReader,
    access: FileAccess,
    plan: LoadPlan,
    planner: LoadPlanner,
) -> None:
    """Reads all items at once, and then those that are left to upstream."""
    storage = _locations(reader, plan)
    progress = progress_of(getattr(reader, "progress", False))
    report = None
    if storage is not None:
        report = native.load_planned(
            plan.items,
            storage,
            planner.state_dict,  # type: ignore[attr-defined]
            planner.lookup_tensor,  # type: ignore[attr-defined]
            access.encoded(access.directory),
            progress=progress,
            **_settings(reader, access),
        )
    if report is None:
        fallbacks.count_operation(
            "read data: a dispatch mode is active, or a location is not plain"
        )
        originals.reader_read_data(reader, plan, planner)
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
        items = _items_at(plan.items, list(details), planner)
        _read_with_upstream(reader, plan, items, planner, list(details.values()))


def _locations(reader: filesystem.FileSystemReader, plan: LoadPlan) -> native.StorageColumns | None:
    """Returns columns with the plain locations of the plan's items; None on fallback."""
    storage_data = reader.storage_data
    if type(storage_data) is StorageData and (columns := storage_data.columns()) is not None:
        return columns
    wanted = {item.storage_index: storage_data[item.storage_index] for item in plan.items}
    if (columns := native.storage_columns(wanted)) is not None:
        return columns
    # Columns have neither transformed streams nor objects that two items share.
    plain = {
        index: _StorageInfo(info.relative_path, info.offset, info.length)
        for index, info in wanted.items()
        if type(info) is _StorageInfo and not info.transform_descriptors
    }
    return native.storage_columns(plain)


def _items_at(items: list[ReadItem], positions: list[int], planner: LoadPlanner) -> list[ReadItem]:
    """Returns some items of a plan. Does not materialize the others if no caller can tell."""
    if (
        type(items) is LazyList
        and items.columns is not None
        and type(planner).load_bytes is originals.planner_load_bytes
    ):
        return native.read_items_at(items, positions)
    return [items[position] for position in positions]


def _read_with_upstream(
    reader: filesystem.FileSystemReader,
    plan: LoadPlan,
    items: list[ReadItem],
    planner: LoadPlanner,
    details: list[str],
) -> None:
    """Reads items with upstream's ``read_data``.

    Args:
        details: per item: what native code found unusual about its part, or "".
    """
    tracker = ItemTracker(planner, items, details)
    with tracker.naming_the_item(reader):
        fallbacks.upstream(
            originals.reader_read_data,
            reader,
            dataclasses.replace(plan, items=items),
            tracker,  # type: ignore[arg-type]
        )


def _read_one_by_one(
    reader: filesystem.FileSystemReader,
    access: FileAccess,
    plan: LoadPlan,
    planner: LoadPlanner,
) -> None:
    """Reads items in upstream's order. Each is read between the calls of the planner's hooks."""
    settings = _settings(reader, access)
    for item in _in_upstreams_order(reader, plan):
        if item.type == LoadItemType.BYTE_IO:
            _read_with_upstream(reader, plan, [item], planner, [""])
            continue
        location = reader.storage_data[item.storage_index]
        target = planner.resolve_tensor(item).detach()
        report = None
        if not getattr(location, "transform_descriptors", None):
            report = native.load_box(
                access.encoded(os.path.join(access.directory, location.relative_path)),
                location.offset,
                location.length,
                list(item.storage_offsets),
                list(item.lengths),
                target,
                **settings,
            )
        if report is not None and report.failure is not None:
            _, what, code, exception = report.failure
            raise failure(reader, item, what, code, exception, [item], len(plan.items))
        if report is None or report.left:
            reason, detail = report.left[0][1:] if report is not None else ("a dispatch mode", "")
            fallbacks.count_entries(f"read data: {reason}")
            resolved = _Resolved(planner, target)
            _read_with_upstream(reader, plan, [item], resolved, [detail])  # type: ignore[arg-type]
        else:
            planner.commit_tensor(item, target)


def _in_upstreams_order(reader: filesystem.FileSystemReader, plan: LoadPlan) -> Iterator[ReadItem]:
    by_file: dict[str, list[ReadItem]] = {}
    for item in plan.items:
        by_file.setdefault(reader.storage_data[item.storage_index].relative_path, []).append(item)
    for items in by_file.values():
        yield from items


class _Resolved:
    """A planner whose ``resolve_tensor`` has been called for the next item."""

    def __init__(self, planner: LoadPlanner, target: torch.Tensor) -> None:
        self._planner = planner
        self._target = target

    def resolve_tensor(self, item: ReadItem) -> torch.Tensor:
        return self._target

    def commit_tensor(self, item: ReadItem, tensor: torch.Tensor) -> None:
        self._planner.commit_tensor(item, tensor)
