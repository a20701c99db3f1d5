"""What the native writers of checkpoint files have in common."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.planner import WriteItem

from .. import fallbacks
from ..native import native
from ..upstream import hooks, originals, replaced_names
from .file_access import default_thread_count
from .progress import progress_of
from .read_failures import add_note

MEMORY = 64 << 20
"""Maximum size in bytes of the buffers of a save, for all threads of a file together."""

HOOKS: dict[str, Callable[..., Any]] = {
    "resolve_data": originals.planner_resolve_data,
    "lookup_object": originals.planner_lookup_object,
    "transform_object": originals.planner_transform_object,
}


def why_upstream(writer: filesystem._FileSystemWriter) -> str | None:
    """Returns the reason why upstream has to write all items, or None."""
    write_files = type(writer)._write_data
    if write_files is not originals.writer_write_files and not replaced_names.is_ours(write_files):
        return "the writer overrides _write_data"
    if type(writer.transforms) is not originals.StorageWriterTransforms:
        return f"the transforms are a {fallbacks.kind_of(writer.transforms)}"
    if writer.transforms.extensions:
        return "the writer has stream extensions"
    if not isinstance(writer.thread_count, int) or writer.thread_count < 1:
        return "thread_count is not a positive number"
    if torch.serialization._serialization_tls.skip_data:
        return "torch.serialization.skip_data is active"
    if hooks.mode_is_active():
        return "a torch function mode or dispatch mode is active"
    return None


def tensor_writer_of(
    writer: filesystem._FileSystemWriter, items: list[WriteItem]
) -> native.TensorWriter:
    """Returns the native writer of items, with the options of a storage writer.

    Raises:
        ValueError: native code cannot read the items.
    """
    return native.TensorWriter(
        items,
        threads=getattr(writer, "write_threads", None)
        or max(1, default_thread_count() // writer.thread_count),
        memory=MEMORY,
        progress=progress_of(getattr(writer, "progress", False), "saving"),
    )


def fail(path: str | os.PathLike[str], item: WriteItem, cause: int | Exception) -> NoReturn:
    """Raises an errno, or what a stream has raised, with a note that names the tensor."""
    error = OSError(cause, os.strerror(cause), str(path)) if isinstance(cause, int) else cause
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = str(path)
    add_note(error, f"while writing {item.index.fqn!r} to {path}")
    raise error


def sync(stream: Any) -> None:
    """Forces the bytes of a stream to the disk, as upstream does."""
    try:
        os.fsync(stream.fileno())
    except (AttributeError, io.UnsupportedOperation):
        os.sync()


def upstream_overlaps(writer: filesystem._FileSystemWriter) -> bool:
    """Returns whether upstream copies tensors to the CPU ahead, and writes them by size."""
    backend = getattr(torch, torch._C._get_privateuse1_backend_name(), None)
    is_available = torch.cuda.is_available() or (backend and backend.is_available())
    return bool(writer.thread_count == 1 and is_available and writer.per_thread_copy_ahead > 0)


def run_all(
    calls: Sequence[Callable[[], None]], threads: int, stop_running: Callable[[], None]
) -> None:
    """Runs calls on threads. If one fails, or a signal arrives, the others end soon.

    A single thread is the calling one.

    Args:
        stop_running: lets the calls that have begun fail.
    """
    if threads <= 1:
        for call in calls:
            call()
        return
    stopped = threading.Event()
    errors: list[BaseException] = []

    def stop(error: BaseException) -> None:
        errors.append(error)  # the first one is the cause of the others
        stopped.set()
        stop_running()

    def run(call: Callable[[], None]) -> None:
        if stopped.is_set():
            return
        try:
            call()
        except BaseException as error:
            stop(error)

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(run, call) for call in calls]
        try:
            for future in futures:
                future.result()
        except BaseException as error:
            stop(error)
            raise
    if errors:
        raise errors[0]
