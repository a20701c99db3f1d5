"""Twin of ``_FileSystemWriter.write_data``: tensors are written natively.

The files are those of upstream, byte for byte. Native code writes plain tensors, on the CPU or on
CUDA, in the format of ``torch.save``: to local files on several threads, and to other streams in
blocks of about a megabyte. Byte entries, and every tensor that native code does not write, are
written by upstream's code, in their places in the same files; the tensors are counted.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from .. import fallbacks
from ..lazy.items import LazyList
from ..native import native
from ..twins.table import twin_of
from ..upstream import hooks, originals, replaced_names
from .file_access import descriptor_of
from .file_writing import (
    HOOKS,
    close,
    fail,
    run_all,
    tensor_writer_of,
    upstream_overlaps,
    why_upstream,
)


@twin_of(originals.writer_write_data)
@functools.wraps(originals.writer_write_data)
def write_data(
    writer: filesystem._FileSystemWriter, plan: SavePlan, planner: SavePlanner
) -> Future[list[WriteResult]]:
    """Writes the items of a plan.

    Args:
        writer: the storage writer.
        plan: the final plan of this rank.
        planner: its planner.

    Raises:
        OSError: a local file cannot be written. It has the path, and a note names the tensor.
        Exception: what a stream raises, with the same note.
    """
    results = None
    is_zip = writer.serialization_format == filesystem.SerializationFormat.TORCH_SAVE
    if is_zip and replaced_names.WRITE_DATA.untouched("write data"):
        reason = why_upstream(writer)
        if reason is None:
            save, reason = _prepare(writer, plan, planner)
            results = save.run() if save is not None else None
        if reason is not None:
            fallbacks.count_operation(f"write data: {reason}")
    if results is None:
        written = originals.writer_write_data(writer, plan, planner).wait()
        results = written if type(written) is LazyList else LazyList(written)
    future: Future[list[WriteResult]] = Future()
    future.set_result(results)
    return future


def _saved(tensor: torch.Tensor) -> bytes:
    stream = io.BytesIO()
    torch.save(tensor, stream)
    return stream.getvalue()


def _samples(dtype: str) -> Iterator[tuple[torch.Tensor, bytes]]:
    """Yields tensors of a dtype, and the parts that the installed torch writes for them."""
    elements = torch.arange(96, dtype=torch.uint8, device="cpu") % 2
    elements = elements.view(getattr(torch, dtype))[:6]
    for tensor in (elements[:6].clone(), elements[:6].clone().view(2, 3).t(), elements[:0].clone()):
        yield tensor, _saved(tensor)


@functools.cache
def _parts(
    checksums: bool, alignment: int, packages: tuple[object, ...]
) -> native.SavedParts | None:
    """Returns how the installed torch lays out parts; None if native code cannot.

    The arguments are the options of ``torch.save`` that are in force.
    """
    try:
        return native.SavedParts(_saved(torch.arange(4.0, device="cpu")), _samples)
    except ValueError:
        return None


def installed_parts() -> native.SavedParts | None:
    """Returns how ``torch.save`` lays out parts, with its options; None if native code cannot."""
    return _parts(
        torch.serialization.get_crc32_options(),
        torch.serialization._get_storage_alignment(),
        tuple(torch.serialization._package_registry),
    )


def _prepare(
    writer: filesystem._FileSystemWriter, plan: SavePlan, planner: SavePlanner
) -> tuple[_Save | None, str | None]:
    """Returns the save, or the reason why upstream has to write all items."""
    parts = installed_parts()
    if parts is None:
        return None, "the installed torch.save writes another format"
    try:
        tensors = tensor_writer_of(writer, plan.items)
        by_size = upstream_overlaps(writer)
        if not writer.single_file_per_rank:
            files = [[position] for position in range(len(plan.items))]
        elif by_size:  # all are in one file
            files = [tensors.byte_positions() + tensors.tensor_positions(by_size=True)]
        else:
            files = tensors.split(writer.thread_count)
        return _Save(writer, plan, planner, tensors, parts, files, by_size), None
    except ValueError as problem:
        return None, str(problem)


class _Save:
    """A save to files.

    Args:
        tensors: the native writer of the plan's items.
        files: the positions of the items in each file.
        by_size: whether upstream copies tensors to the CPU ahead, and writes them by size.
    """

    def __init__(
        self,
        writer: filesystem._FileSystemWriter,
        plan: SavePlan,
        planner: SavePlanner,
        tensors: native.TensorWriter,
        parts: native.SavedParts,
        files: list[list[int]],
        by_size: bool,
    ) -> None:
        self._writer = writer
        self._plan = plan
        self._planner = planner
        self._tensors = tensors
        self._parts = parts
        self._is_bytes = set(tensors.byte_positions())
        self._by_size = by_size
        self._files = files
        self._own_hooks = not hooks.are_upstreams(planner, HOOKS)

    def run(self) -> list[WriteResult]:
        """Writes all files, and returns the write results."""
        names = [
            f"{self._plan.storage_data.prefix}{number}{filesystem.DEFAULT_SUFFIX}"
            for number in range(len(self._files))
        ]
        calls = [
            functools.partial(self._write_file, name, positions)
            for name, positions in zip(names, self._files, strict=True)
        ]
        run_all(calls, min(self._writer.thread_count, len(calls)), self._tensors.stop)
        self._tensors.end_progress()
        return LazyList.from_columns(self._tensors.results())

    def _write_file(self, name: str, positions: Sequence[int]) -> None:
        writer = self._writer
        tensors = [each for each in positions if each not in self._is_bytes]
        # Upstream's loader calls a planner's own hooks in upstream's order.
        loader = self._loader(tensors, self._planner.resolve_data) if self._own_hooks else None
        with writer.fs.create_stream(self._path(name), "wb") as stream:
            for position in positions:
                if position in self._is_bytes:
                    data = self._planner.resolve_data(self._item(position))
                    self._write_with_upstream(position, stream, name, data)
            if loader is None:
                self._write_tensors(stream, name, tensors, None)
            else:
                # Upstream writes a tensor before it resolves the next one, so that a hook can
                # reuse the memory.
                for position, (tensor, _) in zip(tensors, loader.values(), strict=True):
                    self._write_tensors(stream, name, [position], [tensor])
            close(stream, writer.sync_files)

    def _item(self, position: int) -> WriteItem:
        """Returns an item. Does not materialize the others if no caller can tell."""
        if self._own_hooks:
            return self._plan.items[position]
        return self._tensors.item_at(position)

    def _loader(
        self, positions: Sequence[int], resolve: Callable[[Any], Any]
    ) -> filesystem._TensorLoader:
        """Returns upstream's loader of tensors, which has begun."""
        loader: filesystem._TensorLoader
        if self._by_size:
            loader = filesystem._OverlappingCpuLoader(
                resolve, inflight_threshhold=self._writer.per_thread_copy_ahead
            )
        else:
            loader = filesystem._SerialCpuLoader(resolve)
        for position in positions:
            item = self._item(position)
            loader.add(filesystem._item_size(item), item)
        loader.start_loading()
        return loader

    def _write_tensors(
        self,
        stream: Any,
        name: str,
        positions: list[int],
        resolved: list[torch.Tensor] | None,
    ) -> None:
        """Writes tensors where the stream is.

        Args:
            resolved: the tensors; None to find them in the planner's state dict.
        """
        descriptor = descriptor_of(stream)
        done = 0
        while done < len(positions):
            if descriptor is not None:
                stream.flush()
            count, end, failed = self._tensors.write(
                stream.write if descriptor is None else descriptor,
                stream.tell(),
                name,
                positions,
                done,
                self._parts,
                resolved,
                getattr(self._planner, "state_dict", None),
                getattr(self._planner, "lookup_object", None),
            )
            if failed is not None:
                fail(self._path(name), self._item(positions[failed[0]]), failed[1])
            if descriptor is not None:
                stream.seek(end)
            elif stream.tell() != end:
                raise OSError(
                    f"{self._path(name)}: the stream is at byte {stream.tell()}, not {end}, after "
                    f"{count} tensors were written to it"
                )
            done += count
            if done == len(positions):
                break
            fallbacks.count_entries("write data: the tensor is not a plain one on CPU or CUDA")
            position = positions[done]
            if resolved is not None:
                tensor = resolved[done]
            else:
                ((tensor, _),) = self._loader([position], self._planner.resolve_data).values()
            if not tensor.is_cpu:
                raise AssertionError("Tensor must be on CPU")
            self._write_with_upstream(position, stream, name, tensor)
            done += 1

    def _write_with_upstream(self, position: int, stream: Any, name: str, data: Any) -> None:
        """Writes an item with upstream's code, where the stream is."""
        writer = self._writer
        result = originals.write_item(
            writer.transforms,
            stream,
            data,
            self._item(position),
            name,
            writer.serialization_format,
        )
        location = cast(Any, result.storage_data)
        self._tensors.add(position, name, location.offset, location.length)

    def _path(self, name: str) -> str | os.PathLike[str]:
        return self._writer.fs.concat_path(self._writer.path, name)
