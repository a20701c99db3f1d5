"""Twins of ``torch.distributed.checkpoint.filesystem``.

Arguments and files are those of upstream. Data of the whole checkpoint (write results, chunks,
storage_data) is lazy.

The functions are twins of methods of upstream's ``_FileSystemWriter`` and ``FileSystemReader``.
``register()`` installs them there, and the methods of shardplan's own classes call them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import logging
import os
import pickle
from typing import Any, cast

from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint._extension import ExtensionRegistry
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from .. import wire
from ..lazy import storage_data
from ..planners import coordinator
from ..twins.table import twin_of
from ..upstream import originals, replaced_names, versions
from . import atomic_directory, directory_lock, metadata_file
from .file_access import access_of, sync
from .progress import Progress
from .safetensors_writing import write_files
from .tensor_data import read_data
from .tensor_writing import write_data

__all__ = ["FileSystemReader", "FileSystemWriter"]

logger = logging.getLogger(__name__)

_trust_by_default = False


def trust(default: bool) -> None:
    """Sets whether upstream's readers, once registered, trust the metadata files that they read."""
    global _trust_by_default
    _trust_by_default = default


def trusts() -> bool:
    """Returns what ``trust`` set."""
    return _trust_by_default


@twin_of(originals.writer_storage_meta)
@functools.wraps(originals.writer_storage_meta)
def storage_meta(writer: filesystem._FileSystemWriter) -> StorageMeta | None:
    """Twin of ``FileSystemWriter.storage_meta``. Sets a flag if ``finish`` accepts lazy chunks."""
    made: StorageMeta | None = originals.writer_storage_meta(writer)
    if replaced_names.is_ours(type(writer).finish):
        return coordinator.set_accepts_lazy_chunks(made)
    return made


@twin_of(originals.writer_prepare_global_plan)
@functools.wraps(originals.writer_prepare_global_plan)
def prepare_global_plan(
    writer: filesystem._FileSystemWriter, plans: list[SavePlan]
) -> list[SavePlan]:
    """Twin of ``FileSystemWriter.prepare_global_plan``. Also locks the directory for this save.

    Removes the metadata file of an older checkpoint, because its data files are about to be
    overwritten, and the temporary one of a save that failed. A failed save therefore leaves no
    metadata that mixes two checkpoints. The plans are valid at this point, and no rank has written
    data yet.

    Raises:
        RuntimeError: another process is saving into the directory.
    """
    prepared: list[SavePlan] = originals.writer_prepare_global_plan(writer, plans)
    if writer.use_collectives and type(writer.fs) is filesystem.FileSystem:
        directory_lock.take(writer, writer.path)
    metadata_path = writer._get_metadata_path(_rank_of_metadata(writer))
    temporary_path = _temporary_path(writer)
    if writer.fs.exists(temporary_path):
        with contextlib.suppress(OSError):  # If it cannot be removed, finish() raises an error.
            writer.fs.rm_file(temporary_path)
    if writer.fs.exists(metadata_path):
        writer.fs.rm_file(metadata_path)
    return prepared


def _rank_of_metadata(writer: filesystem._FileSystemWriter) -> int | None:
    """Returns the rank in the name of this writer's metadata file; None if it has none."""
    return None if writer.use_collectives else writer.rank


def _temporary_path(writer: filesystem._FileSystemWriter) -> str | os.PathLike[str]:
    """Returns where ``finish`` writes the metadata file before it renames it."""
    rank = _rank_of_metadata(writer)
    prefix = "" if rank is None else f"__{rank}"
    return writer.fs.concat_path(writer.path, f"{prefix}{filesystem._metadata_fn}.tmp")


@twin_of(originals.writer_finish)
@functools.wraps(originals.writer_finish)
def finish(
    writer: filesystem._FileSystemWriter, metadata: Metadata, results: list[list[WriteResult]]
) -> None:
    """Writes the metadata file.

    Twin of ``FileSystemWriter.finish``; file names, fsync and errors are the same. On a local POSIX
    file system the file is renamed into place, so a crash leaves a complete metadata file or none.

    Args:
        writer: the storage writer of the coordinator.
        metadata: the metadata of the global plan.
        results: the write results of each rank.
    """
    try:
        write_metadata(writer, metadata, results)
    finally:
        directory_lock.release(writer)


def write_metadata(
    writer: filesystem._FileSystemWriter,
    metadata: Metadata,
    results: list[list[WriteResult]],
    merged: dict[Any, Any] | None = None,
) -> None:
    """Does what ``finish`` does, except that the directory stays locked.

    Args:
        merged: what ``storage_data.merge`` returns for the results, if the caller has it.
    """
    if not replaced_names.FINISH.untouched("metadata file"):
        originals.writer_finish(writer, metadata, results)
        return
    if not versions.finish_changes_its_argument():
        metadata = dataclasses.replace(metadata)
    metadata.version = filesystem.CURRENT_DCP_VERSION
    metadata.storage_data = storage_data.merge(results) if merged is None else merged
    metadata.storage_meta = coordinator.clear_accepts_lazy_chunks(writer.storage_meta())
    metadata_path = writer._get_metadata_path(_rank_of_metadata(writer))
    tmp_path = _temporary_path(writer)
    with writer.fs.create_stream(tmp_path, "wb") as stream:
        metadata_file.dump(metadata, cast(Any, stream))
        if writer.sync_files:
            sync(stream)
    in_one_step = os.name == "posix" and type(writer.fs) is filesystem.FileSystem
    if not in_one_step and writer.fs.exists(metadata_path):
        writer.fs.rm_file(metadata_path)
    writer.fs.rename(tmp_path, metadata_path)


@twin_of(originals.reader_read_metadata)
@functools.wraps(originals.reader_read_metadata)
def read_metadata(reader: filesystem.FileSystemReader, *args: Any, **kwargs: Any) -> Metadata:
    """Reads the metadata file of a checkpoint, or that of one rank if ``rank`` is given.

    Twin of ``FileSystemReader.read_metadata``.

    Raises:
        pickle.UnpicklingError: the file is broken, or it names an unknown global and the reader
            does not trust it. The message has the file and the byte offset.
    """
    metadata: Metadata
    if not replaced_names.READ_METADATA.untouched("metadata file"):
        metadata = originals.reader_read_metadata(reader, *args, **kwargs)
        return metadata
    path = reader._get_metadata_path(kwargs.get("rank"))
    trust = getattr(reader, "trust", _trust_by_default)
    with reader.fs.create_stream(path, "rb") as stream:
        try:
            metadata = metadata_file.load(cast(Any, stream), path, trust)
        except pickle.UnpicklingError as error:
            # The load of torch 2.11 drops this error, and raises another without the reason.
            logger.warning("%s", error)
            raise
    if getattr(metadata, "storage_meta", None) is None:
        metadata.storage_meta = StorageMeta()
    cast(StorageMeta, metadata.storage_meta).load_id = reader.load_id
    return metadata


class ColumnsWriter(filesystem.FileSystemWriter):
    """Overrides of upstream's writer methods.

    Each method calls upstream's if a caller has replaced it there.
    """

    write_threads: int | None = None
    progress: bool | Progress = False

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        wire.install()
        super().set_up_storage_writer(is_coordinator, *args, **kwargs)

    def storage_meta(self) -> StorageMeta | None:
        if replaced_names.WRITER.untouched("storage_meta"):
            return storage_meta(self)
        return super().storage_meta()

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        if replaced_names.WRITER.untouched("prepare_global_plan"):
            return prepare_global_plan(self, plans)
        return super().prepare_global_plan(plans)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        if replaced_names.WRITER.untouched("write_data"):
            return write_data(self, plan, planner)
        return super().write_data(plan, planner)

    def _write_data(self, planner: SavePlanner, file_queue: Any) -> Future[list[WriteResult]]:
        return write_files(self, planner, file_queue)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        if replaced_names.WRITER.untouched("finish"):
            finish(self, metadata, results)
        else:
            super().finish(metadata, results)


class ColumnsReader(filesystem.FileSystemReader):
    """Overrides of upstream's reader methods.

    Each method calls upstream's if a caller has replaced it there.
    """

    trust = False
    thread_count: int
    verify: bool
    progress: bool | Progress

    def _set_options(
        self, trust: bool, thread_count: int | None, verify: bool, progress: bool | Progress
    ) -> None:
        if thread_count is not None and thread_count < 1:
            raise ValueError(f"thread_count must be at least 1, not {thread_count}")
        access = access_of(self.fs, self.path)
        by_default = access.threads if access is not None else 1
        self.trust = trust
        self.thread_count = by_default if thread_count is None else thread_count
        self.verify = verify
        self.progress = progress

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        if replaced_names.READER.untouched("read_metadata"):
            return read_metadata(self, *args, **kwargs)
        return super().read_metadata(*args, **kwargs)

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        if replaced_names.READER.untouched("read_data"):
            return read_data(self, plan, planner)
        return super().read_data(plan, planner)


replaced_names.add_ours([ColumnsWriter.finish, ColumnsWriter._write_data])


def signature_with_options(upstream: type, ours: type) -> inspect.Signature:
    """Returns the signature of upstream's class, with the keyword-only arguments of ours."""
    signature = inspect.signature(upstream)
    added = [
        parameter
        for parameter in inspect.signature(ours).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    parameters = list(signature.parameters.values())
    last = [each for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD]
    return signature.replace(
        parameters=[*(each for each in parameters if each not in last), *added, *last]
    )


class FileSystemWriter(ColumnsWriter):
    """``torch.distributed.checkpoint.FileSystemWriter``, which writes natively.

    The files are upstream's, byte for byte.

    Args:
        args: arguments of upstream's writer. Its ``thread_count`` is the number of files.
        write_threads: the number of threads that write a file. By default, the number of CPUs that
            this process may use, divided by the number of processes that torchrun started on this
            node, and by ``thread_count``.
        progress: if true, a save of more than a second draws a bar, provided that stderr is a
            terminal. A function is called with the bytes that were written so far and those to be
            written, about every 50 ms and at the end. Its exceptions end the save.
        atomic: if true, the ranks write into a sibling directory, ``.NAME.shardplan-saving``, and
            the coordinator puts it in the place of the path once all is written. Until then, the
            path holds the old checkpoint or nothing, also if the save fails or a process is killed.
            A file system that cannot exchange two directories in one step has nothing at the path
            for a moment. All ranks must share the file system, and the path must hold nothing but
            a checkpoint.
        kwargs: arguments of upstream's writer.
    """

    def __init__(
        self,
        *args: Any,
        write_threads: int | None = None,
        progress: bool | Progress = False,
        atomic: bool = False,
        **kwargs: Any,
    ) -> None:
        if write_threads is not None and write_threads < 1:
            raise ValueError(f"write_threads must be at least 1, not {write_threads}")
        self.atomic = atomic
        super().__init__(*args, **kwargs)
        self.write_threads = write_threads
        self.progress = progress

    @property
    def path(self) -> str | os.PathLike[str]:
        """The directory that the ranks write into."""
        return atomic_directory.staging(self._target) if self.atomic else self._target

    @path.setter
    def path(self, path: str | os.PathLike[str]) -> None:
        self._target = path

    @property
    def checkpoint_id(self) -> str | os.PathLike[str]:
        return self._target

    def _metadata_exists(self) -> bool:
        if not self.atomic:
            return super()._metadata_exists()
        # An old checkpoint is not damaged by a save, so upstream's warning of that is left out.
        return not self.overwrite and self.fs.exists(
            self.fs.concat_path(self._target, filesystem._metadata_fn)
        )

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        super().set_up_storage_writer(is_coordinator, *args, **kwargs)
        if self.atomic and not self.use_collectives:
            raise ValueError(
                "atomic=True needs a coordinator, which a save with use_collectives=False lacks"
            )

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        if self.atomic:
            # A save by another process that has just ended may have moved or removed it.
            self.fs.mkdir(self.path)
            directory_lock.take(self, self.path, must_exist=True)
        prepared = super().prepare_global_plan(plans)
        if self.atomic:
            atomic_directory.prepare(self._target)
        return prepared

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        if not self.atomic:
            super().finish(metadata, results)
            return
        try:
            # The old checkpoint takes the name of the directory in which the next save writes,
            # until it is removed.
            with directory_lock.held(self._target):
                merged = storage_data.merge(results)
                atomic_directory.check_files(self._target, storage_data.file_sizes(merged))
                if replaced_names.WRITER.untouched("finish"):
                    write_metadata(self, metadata, results, merged)
                else:
                    super().finish(metadata, results)
                atomic_directory.publish(self._target, self.sync_files)
        finally:
            directory_lock.release(self)


replaced_names.add_ours([FileSystemWriter.finish])

FileSystemWriter.__signature__ = signature_with_options(  # type: ignore[attr-defined]
    filesystem.FileSystemWriter, FileSystemWriter
)


class FileSystemReader(ColumnsReader):
    """``torch.distributed.checkpoint.FileSystemReader``, which reads metadata and tensors natively.

    Args:
        path: the directory of the checkpoint.
        trust: if true, metadata that names unknown globals is loaded with ``pickle``, which can run
            arbitrary code; otherwise it is rejected.
        thread_count: the number of threads that read. By default, the number of CPUs that this
            process may use, divided by the number of processes that torchrun started on this node.
        verify: if true, the checksums of the parts that are read are compared, and a wrong one is
            an error that names the tensor and the bytes.
        progress: if true, a load of more than a second draws a bar, provided that stderr is a
            terminal. A function is called with the bytes that were read so far and those to be
            read, about every 50 ms and at the end. Its exceptions end the load.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        _extension_registry: ExtensionRegistry | None = None,
        *,
        trust: bool = False,
        thread_count: int | None = None,
        verify: bool = False,
        progress: bool | Progress = False,
    ) -> None:
        super().__init__(path, _extension_registry)
        self._set_options(trust, thread_count, verify, progress)
