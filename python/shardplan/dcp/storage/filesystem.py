"""Twins of ``torch.distributed.checkpoint.filesystem``: same arguments, same files.

What they hold of a whole checkpoint (write results, chunks, storage_data) stays columns until
somebody touches it.

The functions answer to methods of upstream's ``_FileSystemWriter`` and ``FileSystemReader``, in
whose place ``register()`` puts them; the methods of our own classes call them too.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from io import UnsupportedOperation
from typing import Any, cast

from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint._extension import ExtensionRegistry
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from .. import wire
from ..lazy import storage_data
from ..lazy.items import Items
from ..planners import coordinator
from ..twins.table import answers
from ..upstream import originals, replaced_names
from . import directory_lock, metadata_file

__all__ = ["FileSystemReader", "FileSystemWriter"]

_trusting = False


def trust(trusting: bool) -> None:
    """Whether upstream's own readers, under ``register()``, trust the metadata that they read."""
    global _trusting
    _trusting = trusting


def trusts() -> bool:
    """Whether they do."""
    return _trusting


@answers(originals.writer_storage_meta)
@functools.wraps(originals.writer_storage_meta)
def storage_meta(writer: filesystem._FileSystemWriter) -> StorageMeta | None:
    """As upstream's, with a mark where ``finish`` needs no chunk of Metadata made."""
    made: StorageMeta | None = originals.writer_storage_meta(writer)
    return coordinator.mark(made) if replaced_names.is_ours(type(writer).finish) else made


@answers(originals.writer_write_data)
@functools.wraps(originals.writer_write_data)
def write_data(
    writer: filesystem._FileSystemWriter, plan: SavePlan, planner: SavePlanner
) -> Future[list[WriteResult]]:
    """As upstream's; its list of results travels as columns."""
    future: Future[list[WriteResult]] = Future()
    future.set_result(Items(originals.writer_write_data(writer, plan, planner).wait()))
    return future


@answers(originals.writer_prepare_global_plan)
@functools.wraps(originals.writer_prepare_global_plan)
def prepare_global_plan(
    writer: filesystem._FileSystemWriter, plans: list[SavePlan]
) -> list[SavePlan]:
    """As upstream's; then the directory is this save's.

    The plans are valid, and no rank has written yet. The metadata of an older checkpoint goes,
    for its data files are about to be overwritten: a save that fails leaves no ``.metadata`` that
    mixes two checkpoints. ``RuntimeError`` if another process is saving into the directory.
    """
    prepared: list[SavePlan] = originals.writer_prepare_global_plan(writer, plans)
    if writer.use_collectives and type(writer.fs) is filesystem.FileSystem:
        directory_lock.take(writer, writer.path)
    metadata_path = writer._get_metadata_path(_rank_of_metadata(writer))
    if writer.fs.exists(metadata_path):
        writer.fs.rm_file(metadata_path)
    return prepared


def _rank_of_metadata(writer: filesystem._FileSystemWriter) -> int | None:
    """The rank in the name of the metadata file that this writer writes, or None."""
    return None if writer.use_collectives else writer.rank


# torch 2.11 leaves the Metadata that dcp.save returns without storage_data and version.
_FINISHES_A_COPY = "replace" in originals.writer_finish.__code__.co_names


@answers(originals.writer_finish)
@functools.wraps(originals.writer_finish)
def finish(
    writer: filesystem._FileSystemWriter, metadata: Metadata, results: list[list[WriteResult]]
) -> None:
    """Writes the metadata file, and makes it take effect.

    Answers to ``FileSystemWriter.finish``: same names, fsync and errors. Where a file can be
    put into place in one step, a crash leaves no metadata or all of it.
    """
    try:
        if replaced_names.FINISH.untouched("metadata file"):
            _finish(writer, metadata, results)
        else:
            originals.writer_finish(writer, metadata, results)
    finally:
        directory_lock.release(writer)


def _finish(
    writer: filesystem._FileSystemWriter, metadata: Metadata, results: list[list[WriteResult]]
) -> None:
    if _FINISHES_A_COPY:
        metadata = dataclasses.replace(metadata)
    metadata.version = filesystem.CURRENT_DCP_VERSION
    metadata.storage_data = storage_data.merge(results)
    metadata.storage_meta = coordinator.unmarked(writer.storage_meta())
    rank = _rank_of_metadata(writer)
    metadata_path = writer._get_metadata_path(rank)
    prefix = "" if rank is None else f"__{rank}"
    tmp_path = writer.fs.concat_path(writer.path, f"{prefix}{filesystem._metadata_fn}.tmp")
    with writer.fs.create_stream(tmp_path, "wb") as stream:
        metadata_file.dump(metadata, cast(Any, stream))
        if writer.sync_files:
            try:
                os.fsync(stream.fileno())
            except (AttributeError, UnsupportedOperation):
                os.sync()
    in_one_step = os.name == "posix" and type(writer.fs) is filesystem.FileSystem
    if not in_one_step and writer.fs.exists(metadata_path):
        writer.fs.rm_file(metadata_path)
    writer.fs.rename(tmp_path, metadata_path)


@answers(originals.reader_read_metadata)
@functools.wraps(originals.reader_read_metadata)
def read_metadata(reader: filesystem.FileSystemReader, *args: Any, **kwargs: Any) -> Metadata:
    """The metadata of the checkpoint; of a rank, where ``rank`` is given.

    Answers to ``FileSystemReader.read_metadata``. ``pickle.UnpicklingError``, with the file and
    the byte, for a file that is broken, or that names another global than a checkpoint's
    metadata does.
    """
    metadata: Metadata
    if not replaced_names.READ_METADATA.untouched("metadata file"):
        metadata = originals.reader_read_metadata(reader, *args, **kwargs)
        return metadata
    path = reader._get_metadata_path(kwargs.get("rank"))
    trust = getattr(reader, "trust", _trusting)
    with reader.fs.create_stream(path, "rb") as stream:
        metadata = metadata_file.load(cast(Any, stream), path, trust)
    if getattr(metadata, "storage_meta", None) is None:
        metadata.storage_meta = StorageMeta()
    cast(StorageMeta, metadata.storage_meta).load_id = reader.load_id
    return metadata


class ColumnsWriter(filesystem.FileSystemWriter):
    """What our writers do in another way than upstream's.

    Each method gives way to upstream's where a caller has replaced that one.
    """

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

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        if replaced_names.WRITER.untouched("finish"):
            finish(self, metadata, results)
        else:
            super().finish(metadata, results)


class ColumnsReader(filesystem.FileSystemReader):
    """What our readers do in another way than upstream's, unless a caller has replaced that."""

    trust = False

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        if replaced_names.READER.untouched("read_metadata"):
            return read_metadata(self, *args, **kwargs)
        return super().read_metadata(*args, **kwargs)


replaced_names.add_ours([ColumnsWriter.finish])


class FileSystemWriter(ColumnsWriter):
    """``torch.distributed.checkpoint.FileSystemWriter``, whose metadata is no Python objects."""


class FileSystemReader(ColumnsReader):
    """``torch.distributed.checkpoint.FileSystemReader``, whose metadata is no Python objects.

    trust: whether a metadata file that names other globals than a checkpoint's metadata does is
        given to pickle, which runs what it says; default: it is refused
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        _extension_registry: ExtensionRegistry | None = None,
        *,
        trust: bool = False,
    ) -> None:
        super().__init__(path, _extension_registry)
        self.trust = trust
