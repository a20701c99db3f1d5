"""Twins of ``torch.distributed.checkpoint.filesystem``: same arguments, same files.

What they hold of a whole checkpoint (write results, chunks, storage_data) stays columns until
somebody touches it.
"""

from __future__ import annotations

from . import _fit  # noqa: F401

# isort: split
import dataclasses
import os
from io import UnsupportedOperation
from typing import Any, cast

from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint._extension import ExtensionRegistry
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from . import _coordinator, _metadata_file, _storage_data, _wire
from ._items import Items

__all__ = ["FileSystemReader", "FileSystemWriter"]


# torch 2.11 leaves the Metadata that dcp.save returns without storage_data and version.
_FINISHES_A_COPY = "replace" in filesystem.FileSystemWriter.finish.__code__.co_names


class ColumnsWriter(filesystem.FileSystemWriter):
    """What our writers do in another way than the stock one."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        _wire.install()
        super().set_up_storage_writer(is_coordinator, *args, **kwargs)

    def storage_meta(self) -> StorageMeta | None:
        """As the stock one, with a mark: this writer needs no chunk of Metadata made."""
        return _coordinator.mark(super().storage_meta())

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """As the stock one; its list of results travels as columns."""
        future: Future[list[WriteResult]] = Future()
        future.set_result(Items(super().write_data(plan, planner).wait()))
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Writes the metadata file, and makes it take effect.

        Answers to ``FileSystemWriter.finish``: same names, fsync and errors. Where a file can be
        replaced in one step, a crash leaves the old one or the new one.
        """
        if _FINISHES_A_COPY:
            metadata = dataclasses.replace(metadata)
        metadata.version = filesystem.CURRENT_DCP_VERSION
        metadata.storage_data = _storage_data.merge(results)
        metadata.storage_meta = _coordinator.unmarked(self.storage_meta())
        rank = None if self.use_collectives else self.rank
        metadata_path = self._get_metadata_path(rank)
        prefix = "" if rank is None else f"__{rank}"
        tmp_path = self.fs.concat_path(self.path, f"{prefix}{filesystem._metadata_fn}.tmp")
        with self.fs.create_stream(tmp_path, "wb") as stream:
            _metadata_file.dump(metadata, cast(Any, stream))
            if self.sync_files:
                try:
                    os.fsync(stream.fileno())
                except (AttributeError, UnsupportedOperation):
                    os.sync()
        in_one_step = os.name == "posix" and type(self.fs) is filesystem.FileSystem
        if not in_one_step and self.fs.exists(metadata_path):
            self.fs.rm_file(metadata_path)
        self.fs.rename(tmp_path, metadata_path)


class ColumnsReader(filesystem.FileSystemReader):
    """What our readers do in another way than the stock one."""

    trust = False

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The metadata of the checkpoint; of a rank, where ``rank`` is given.

        Answers to ``FileSystemReader.read_metadata``. ``pickle.UnpicklingError``, with the file and
        the byte, for a file that is broken, or that names another global than a checkpoint's
        metadata does.
        """
        path = self._get_metadata_path(kwargs.get("rank"))
        with self.fs.create_stream(path, "rb") as stream:
            metadata: Metadata = _metadata_file.load(cast(Any, stream), path, self.trust)
        if getattr(metadata, "storage_meta", None) is None:
            metadata.storage_meta = StorageMeta()
        cast(StorageMeta, metadata.storage_meta).load_id = self.load_id
        return metadata


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
