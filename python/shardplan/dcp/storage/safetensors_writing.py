"""Twin of ``_FileSystemWriter._write_data``: safetensors files are written natively.

The files are those of the safetensors library, byte for byte, except for the order of the entries
of ``__metadata__``, which the library changes from call to call. Native code writes from the memory
of the tensors, where the library makes two copies of a file. What it does not write, upstream's
code writes, and the save is counted.
"""

from __future__ import annotations

import functools
import importlib
import io
import queue
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint._hf_utils import (
    CUSTOM_METADATA_KEY,
    DCP_VERSION_KEY,
    FORMAT_KEY,
    FORMAT_VALUE,
    HF_DCP_VERSION,
)
from torch.distributed.checkpoint.planner import SavePlanner, WriteItem
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

File = tuple[Any, str, list[WriteItem]]
"""Path, name in the checkpoint, items."""


@twin_of(originals.writer_write_files)
@functools.wraps(originals.writer_write_files)
def write_files(
    writer: filesystem._FileSystemWriter, planner: SavePlanner, file_queue: queue.Queue[File]
) -> Future[list[WriteResult]]:
    """Writes the files of a queue, natively if they are safetensors files.

    Raises:
        OSError: a local file cannot be written. It has the path, and a note names the tensor.
        Exception: what a stream raises, with the same note.
    """
    upstreams: Future[list[WriteResult]]
    if writer.serialization_format == filesystem.SerializationFormat.SAFETENSORS:
        files = [file_queue.get_nowait() for _ in range(file_queue.qsize())]
        results, reason = _write(writer, planner, files)
        if results is not None:
            future: Future[list[WriteResult]] = Future()
            future.set_result(results)
            return future
        fallbacks.count_operation(f"write safetensors: {reason}")
        for file in files:
            file_queue.put(file)
    upstreams = originals.writer_write_files(writer, planner, file_queue)
    return upstreams


def _write(
    writer: filesystem._FileSystemWriter, planner: SavePlanner, files: list[File]
) -> tuple[list[WriteResult] | None, str]:
    """Returns the write results, or None and the reason why upstream has to write all files."""
    if not replaced_names.WRITE_DATA.untouched("write safetensors", lambda reason: None):
        return None, "a name of upstream was replaced"
    reason = why_upstream(writer)
    if reason is not None:
        return None, reason
    if not hooks.are_upstreams(planner, HOOKS):
        return None, "the planner overrides resolve_data or what it calls"
    if not _library_is_known():
        return None, "the installed safetensors writes another format"
    items = files[0][2] if len(files) == 1 else [item for _, _, some in files for item in some]
    try:
        tensors = tensor_writer_of(writer, items)
        in_order = tensors.tensor_positions(by_size=upstream_overlaps(writer))
    except ValueError as problem:
        return None, str(problem)
    if len(in_order) < len(items):
        return None, "the plan has byte entries"
    rank_of = {position: rank for rank, position in enumerate(in_order)}
    calls, begin = [], 0
    left: list[str] = []
    for path, name, some in files:
        positions = sorted(range(begin, begin + len(some)), key=rank_of.__getitem__)
        begin += len(some)
        calls.append(
            functools.partial(_write_file, writer, planner, tensors, path, name, positions, left)
        )
    run_all(calls, min(writer.thread_count, len(calls)), tensors.stop)
    if left:
        return None, "the library rejects a tensor, or it is not a plain one on CPU or CUDA"
    tensors.end_progress()
    return LazyList.from_columns(tensors.results()), ""


def _write_file(
    writer: filesystem._FileSystemWriter,
    planner: Any,
    tensors: native.TensorWriter,
    path: Any,
    name: str,
    positions: list[int],
    left: list[str],
) -> None:
    """Writes a file; or writes nothing, and adds its name to ``left``."""
    if left:
        return
    metadata = [
        (CUSTOM_METADATA_KEY, tensors.saved_offsets(positions)),
        (DCP_VERSION_KEY, str(HF_DCP_VERSION)),
        (FORMAT_KEY, FORMAT_VALUE),
    ]
    with writer.fs.create_stream(path, "wb") as stream:
        descriptor = descriptor_of(stream)
        done = tensors.write_safetensors(
            stream.write if descriptor is None else descriptor,
            name,
            positions,
            metadata,
            getattr(planner, "state_dict", None),
            getattr(planner, "lookup_object", None),
        )
        if done is None:
            left.append(name)
            return
        end, failed = done
        if failed is not None:
            fail(path, tensors.item_at(positions[failed[0]]), failed[1])
        if descriptor is None and stream.tell() != end:
            raise OSError(f"{path}: the stream is at byte {stream.tell()}, not {end}")
        close(stream, writer.sync_files)


@functools.cache
def _library_is_known() -> bool:
    """Returns whether the installed safetensors library writes a sample as native code does."""
    try:
        library: Any = importlib.import_module("safetensors.torch")
    except ImportError:  # upstream raises it
        return False
    sample = dict(_samples())
    items = [
        originals.create_write_item_for_tensor(name, tensor) for name, tensor in sample.items()
    ]
    tensors = native.TensorWriter(items, threads=1, memory=0, progress=None)
    stream = io.BytesIO()
    metadata = [("key", 'text "\\\n\x01\x7f ä\u2028\U0001f600')]
    tensors.write_safetensors(
        stream.write, "", list(range(len(items))), metadata, sample, sample.get
    )
    return bool(stream.getvalue() == library.save(sample, metadata=dict(metadata)))


def _samples() -> Any:
    """Yields tensors of all dtypes that both libraries know, by name."""
    bytes_of_one = torch.arange(16, dtype=torch.uint8, device="cpu") % 2
    for name in native.safetensors_dtypes():
        if (dtype := getattr(torch, name, None)) is not None:
            yield name, bytes_of_one.clone().view(dtype)
            yield (
                f'"{name}"\\\n\x01\x7f ä\U0001f600',
                bytes_of_one.clone().view(dtype).view(1, 2, -1),
            )
    yield "empty", torch.zeros(0, 3, device="cpu")
    yield "scalar", torch.ones((), device="cpu")
