"""Checks whether callers have replaced names that upstream looks up at run time.

Upstream looks up helpers, classes and methods in modules and classes when it runs, and callers,
mostly tests, replace them there. Native code does not look them up. Therefore each step checks its
table of names first, once per plan or file. If a name was replaced, the whole step falls back to
upstream's code.

A table lists the names whose work the native code of a step does itself. Names that the installed
torch does not have are skipped.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any

import torch
from torch.distributed.checkpoint import (
    _dedup_save_plans,
    default_planner,
    filesystem,
    hf_storage,
    metadata,
    planner,
    planner_helpers,
    storage,
    utils,
)
from torch.distributed.tensor import DTensor, _utils, placement_types

from .. import fallbacks

try:
    safetensors: Any = importlib.import_module("safetensors")
except ImportError:  # upstream's Hugging Face storage then fails, as it does without shardplan
    safetensors = None

_Table = tuple[tuple[Any, tuple[str, ...]], ...]

# Names that construct objects of upstream's classes.
_CONSTRUCTORS: _Table = (
    (metadata, ("TensorProperties",)),
    (metadata.MetadataIndex, ("__init__", "__post_init__")),
    (metadata.ChunkStorageMetadata, ("__init__", "__post_init__")),
    (metadata.TensorProperties, ("__init__", "__post_init__", "create_from_tensor")),
    (metadata.TensorStorageMetadata, ("__init__", "__post_init__")),
    (metadata.BytesStorageMetadata, ("__init__", "__post_init__")),
    (planner.TensorWriteData, ("__init__", "__post_init__")),
    (planner.WriteItem, ("__init__", "__post_init__", "tensor_storage_size")),
    (planner.ReadItem, ("__init__", "__post_init__")),
)
# Names that compute the local box of a DTensor.
_BOX: _Table = (
    (planner_helpers, ("compute_local_shape_and_global_offset", "ChunkStorageMetadata", "torch")),
    (_utils, ("_compute_local_shape_and_global_offset",)),
    (placement_types.Shard, ("_local_shard_size_and_offset", "local_shard_size_and_offset")),
    (
        placement_types._StridedShard,
        ("_local_shard_size_and_offset", "local_shard_size_and_offset"),
    ),
    (metadata.ChunkStorageMetadata, ("__init__", "__post_init__")),
)
_SAVE: _Table = (
    *_CONSTRUCTORS,
    *_BOX,
    (default_planner, ("_create_write_items", "SavePlan", "DTensor")),
    (
        planner_helpers,
        (
            "MetadataIndex",
            "ShardedTensor",
            "TensorProperties",
            "TensorWriteData",
            "WriteItem",
            "WriteItemType",
            "_chunk_for_shard",
            "_create_write_item_for_bytesio",
            "_create_write_item_for_shard",
            "_create_write_item_for_tensor",
            "_create_write_items_for_dtensor",
            "_get_checkpointable_tensor_chunks",
            "_get_checkpointable_tensor_write_items",
            "_is_checkpointable_tensor",
            "_sharded_tensor_metadata",
        ),
    ),
)
_LOAD: _Table = (
    *_CONSTRUCTORS,
    *_BOX,
    (
        default_planner,
        (
            "_create_read_items",
            "_is_checkpointable_tensor",
            "LoadPlan",
            "DTensor",
            "TensorStorageMetadata",
        ),
    ),
    (
        planner_helpers,
        (
            "BytesStorageMetadata",
            "LoadItemType",
            "MetadataIndex",
            "ReadItem",
            "ShardedTensor",
            "_check_shard_metadata_pair_overlap",
            "_chunk_for_shard",
            "_create_chunk_from_dtensor",
            "_create_chunk_from_tensor",
            "_create_chunk_list",
            "_create_read_item_for_byteio",
            "_create_read_item_for_tensor",
            "_get_checkpointable_tensor_chunks",
            "_is_checkpointable_tensor",
            "_shards_get_overlap_region_wrt_saved_tensor",
            "create_read_items_for_chunk_list",
        ),
    ),
)
_GLOBAL: _Table = (
    *_CONSTRUCTORS,
    (
        default_planner,
        (
            "BytesStorageMetadata",
            "Metadata",
            "TensorStorageMetadata",
            "WriteItemType",
            "dataclasses",
        ),
    ),
    (_dedup_save_plans, ("SavePlan", "dataclasses", "defaultdict")),
)
_VALIDATION: _Table = (
    (
        default_planner,
        ("BytesStorageMetadata", "_check_box_bounds", "_check_box_overlap"),
    ),
)
_FINISH: _Table = (
    (filesystem, ("pickle", "os", "dataclasses", "WriteResult", "_StorageInfo", "Metadata")),
    (pickle, ("dump",)),
    (storage.WriteResult, ("__init__", "__post_init__")),
    (filesystem._StorageInfo, ("__init__", "__post_init__", "__getstate__")),
)
_METHODS_OF_WRITER = ("finish", "prepare_global_plan", "storage_meta", "write_data")
_WRITER: _Table = (
    (filesystem._FileSystemWriter, _METHODS_OF_WRITER),
    (filesystem.FileSystemWriter, _METHODS_OF_WRITER),
)
_READER: _Table = ((filesystem.FileSystemReader, ("read_data", "read_metadata")),)
# Names that find the target of an item, and commit it.
_TARGETS: _Table = (
    (default_planner, ("find_state_dict_object", "narrow_tensor_by_index")),
    (
        default_planner.DefaultLoadPlanner,
        ("commit_tensor", "lookup_tensor", "resolve_tensor", "transform_tensor"),
    ),
    (utils, ("_is_checkpointable_tensor", "find_tensor_shard")),
    (DTensor, ("__get_tensor_shard__", "to_local")),
)
_READ_DATA: _Table = (
    *_TARGETS,
    (
        filesystem,
        (
            "LoadItemType",
            "_create_file_view",
            "io",
            "narrow_tensor_by_index",
            "torch",
        ),
    ),
    (filesystem.FileSystem, ("concat_path", "create_stream")),
    (filesystem._StorageReaderTransforms, ("transform_load_stream",)),
    (torch, ("load",)),
)
_WRITE_DATA: _Table = (
    (
        filesystem,
        (
            "DEFAULT_SUFFIX",
            "WriteItemType",
            "WriteResult",
            "_OverlappingCpuLoader",
            "_SerialCpuLoader",
            "_StorageInfo",
            "_item_size",
            "_split_by_size_and_type",
            "_write_files_from_queue",
            "_write_item",
            "os",
            "queue",
            "torch",
        ),
    ),
    (filesystem.FileSystem, ("concat_path", "create_stream")),
    (filesystem._FileSystemWriter, ("_write_data",)),
    (filesystem._StorageWriterTransforms, ("transform_save_stream",)),
    (default_planner, ("find_state_dict_object",)),
    (default_planner.DefaultSavePlanner, ("lookup_object", "resolve_data", "transform_object")),
    (utils, ("_is_checkpointable_tensor", "find_tensor_shard")),
    (DTensor, ("__get_tensor_shard__", "to_local")),
    (torch, ("save",)),
    (torch.serialization, ("_open_zipfile_writer", "_save", "get_crc32_options", "save")),
)
_HF_READER: _Table = ((hf_storage.HuggingFaceStorageReader, ("read_data", "read_metadata")),)
_SAFE_OPEN: _Table = ((safetensors, ("safe_open",)),) if safetensors is not None else ()
_HF_READ_DATA: _Table = (
    *_TARGETS,
    (
        hf_storage.HuggingFaceStorageReader,
        ("_process_read_request", "_read_files_from_queue"),
    ),
    *_SAFE_OPEN,
)
_HF_READ_METADATA: _Table = (
    *_CONSTRUCTORS,
    (
        hf_storage,
        (
            "CUSTOM_METADATA_KEY",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "SAVED_OFFSETS_KEY",
            "SUFFIX",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_HFStorageInfo",
            "json",
            "torch",
        ),
    ),
    (hf_storage._HFStorageInfo, ("__init__", "__post_init__")),
    *_SAFE_OPEN,
)
_READ_METADATA: _Table = ((filesystem, ("pickle", "StorageMeta")), (pickle, ("load",)))

# Packages that define the values of upstream's names. A value from another package was put there by
# a caller before shardplan was imported.
_UPSTREAM_PACKAGES = ("torch", "builtins", "collections", "pickle", "_pickle")

# Keyed by id. The values are kept alive so that their ids are not reused.
_known: dict[int, object] = {}
_ours: dict[int, object] = {}


def _is_from_upstream(value: object) -> bool:
    module = getattr(value, "__module__", None)
    return module is None or str(module).split(".")[0] in _UPSTREAM_PACKAGES


class NameTable:
    """A table of names and the values that they had when shardplan was imported."""

    def __init__(self, table: _Table) -> None:
        slots = {(id(holder), name): (holder, name) for holder, names in table for name in names}
        self._slots = [
            (name not in vars(holder), f"{holder.__name__}.{name}")
            for holder, name in slots.values()
        ]
        # Bound to the live namespaces, so that later replacements are seen.
        self._lookups = [(vars(holder).get, name) for holder, name in slots.values()]
        self._seen: list[Any] = []  # values at the last successful check
        for value in self._values():
            if value is not None and _is_from_upstream(value):
                _known[id(value)] = value

    def untouched(
        self, step: str, count: Callable[[str], None] = fallbacks.count_operation
    ) -> bool:
        """Returns whether every name holds upstream's value or a twin.

        Args:
            step: the step that depends on these names, for the reason of a fallback.
            count: called with the reason if a name was replaced.
        """
        values = self._values()
        if self._seen and all(map(is_, values, self._seen)):
            return True
        for value, (absent, where) in zip(values, self._slots, strict=True):
            if not (absent if value is None else id(value) in _known):
                count(f"{step}: {where} was replaced")
                return False
        self._seen = values
        return True

    def _values(self) -> list[Any]:
        return [get(name) for get, name in self._lookups]


SAVE = NameTable(_SAVE)
LOAD = NameTable(_LOAD)
BOX = NameTable(_BOX)
GLOBAL = NameTable(_GLOBAL)
VALIDATION = NameTable(_VALIDATION)
FINISH = NameTable(_FINISH)
READ_METADATA = NameTable(_READ_METADATA)
WRITER = NameTable(_WRITER)
READER = NameTable(_READER)
READ_DATA = NameTable(_READ_DATA)
WRITE_DATA = NameTable(_WRITE_DATA)
HF_READER = NameTable(_HF_READER)
HF_READ_DATA = NameTable(_HF_READ_DATA)
HF_READ_METADATA = NameTable(_HF_READ_METADATA)


def add_ours(functions: Iterable[Callable[..., Any]]) -> None:
    """Registers twins, so that they do not count as a caller's replacements."""
    for function in functions:
        _known[id(function)] = _ours[id(function)] = function


def is_ours(function: object) -> bool:
    """Returns whether ``add_ours`` was called with this function."""
    return id(function) in _ours
