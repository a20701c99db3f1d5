"""What the native writers of checkpoint files have in common."""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.planner import WriteItem

from .. import fallbacks
from ..native import native
from ..upstream import hooks, originals, replaced_names
from .file_access import default_thread_count, sync
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
    is_known = write_files is originals.writer_write_files or replaced_names.is_ours(write_files)
    if not is_known or "_write_data" in vars(writer):
        return "the writer overrides _write_data"
    if not isinstance(writer.thread_count, int) or writer.thread_count < 1:
        return "thread_count is not a positive number"
    return why_upstream_transforms(writer.transforms)


def why_upstream_transforms(transforms: filesystem._StorageWriterTransforms) -> str | None:
    """Returns the reason why upstream has to write a tensor with these transforms, or None."""
    if type(transforms) is not originals.StorageWriterTransforms:
        return f"the transforms are a {fallbacks.kind_of(transforms)}"
    if transforms.extensions:
        return "the writer has stream extensions"
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


def close(stream: Any, to_disk: bool) -> None:
    """Closes a stream as upstream does.

    Args:
        to_disk: whether the bytes are forced to the disk before.
    """
    stream.flush()
    if to_disk:
        sync(stream)
    stream.close()


def upstream_overlaps(writer: filesystem._FileSystemWriter) -> bool:
    """Returns whether upstream copies tensors to the CPU ahead, and writes them by size."""
    backend = getattr(torch, torch._C._get_privateuse1_backend_name(), None)
    is_available = torch.cuda.is_available() or (backend and backend.is_available())
    return bool(writer.thread_count == 1 and is_available and writer.per_thread_copy_ahead > 0)


def run_all(
    calls: Sequence[Callable[[], None]], threads: int, stop_running: Callable[[], None]
) -> None:
    """Runs calls on threads, of which the calling one is the first.

    If a call fails, or a signal arrives, the others end soon, and the first exception is raised. No
    thread outlives the function.

    Args:
        stop_running: lets the calls that have begun fail.
    """
    waiting = collections.deque(calls)
    errors: list[BaseException] = []

    def stop(error: BaseException) -> None:
        errors.append(error)  # the first one is the cause of the others
        waiting.clear()
        stop_running()

    def work() -> None:
        while not errors:
            try:
                call = waiting.popleft()
            except IndexError:
                return
            try:
                call()
            except BaseException as error:
                stop(error)

    # An executor would refuse the last save of a process, which async_save writes while Python
    # waits for its threads to end.
    others = [threading.Thread(target=work, name="shardplan write") for _ in range(threads - 1)]
    started = []
    for thread in others:
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads: those that there are do the work
            break
        started.append(thread)
    work()
    for thread in started:
        while thread.is_alive():
            try:
                thread.join()
            except BaseException as error:  # of a signal handler
                stop(error)
    if errors:
        raise errors[0]
