"""Twins of ``torch.distributed.checkpoint.planner_helpers``.

Same names, arguments, results and errors. What native code does not read (subclasses, hooks,
numbers beyond int64, broken metadata) is answered by the stock function.
"""

from __future__ import annotations

from . import _fit

# isort: split
import contextlib
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    STORAGE_TYPES,
    ChunkStorageMetadata,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import ReadItem, SavePlan, WriteItem
from torch.distributed.tensor import DTensor

from . import _hooks, _stock
from ._native import native
from ._stock import chunk_for_shard as _chunk_for_shard
from ._stock import contains_usable_plan as _contains_usable_plan
from ._stock import create_default_metadata_only_plan as _create_default_metadata_only_plan
from ._stock import create_read_item_for_byteio as _create_read_item_for_byteio
from ._stock import create_read_item_for_tensor as _create_read_item_for_tensor
from ._stock import create_write_item_for_bytesio as _create_write_item_for_bytesio
from ._stock import create_write_item_for_shard as _create_write_item_for_shard
from ._stock import (
    get_checkpointable_tensor_write_items as _get_checkpointable_tensor_write_items,
)
from ._stock import init_state_dict as _init_state_dict
from ._stock import iterate_state_dict as _iterate_state_dict
from ._stock import merge_delta_local_plans as _merge_delta_local_plans
from ._stock import sharded_tensor_metadata as _sharded_tensor_metadata

__all__: list[str] = ["create_read_items_for_chunk_list"]


def create_read_items_for_chunk_list(
    fqn: str,
    checkpoint_md: TensorStorageMetadata,
    local_chunks: list[ChunkStorageMetadata],
) -> list[ReadItem]:
    """The reads that satisfy ``local_chunks`` from the saved chunks of ``checkpoint_md``.

    Near-linear in saved + wanted + reads found, whichever dim is sharded. Answers to
    ``planner_helpers.create_read_items_for_chunk_list``, order included.
    """
    if type(checkpoint_md) is TensorStorageMetadata and _hooks.load_untouched():
        columns = native.read_columns(fqn, checkpoint_md.chunks, local_chunks)
        if columns is not None:
            return columns.items()
    return _stock.create_read_items_for_chunk_list(fqn, checkpoint_md, local_chunks)


def _compare_save_plans(plan: SavePlan, other_plan: SavePlan) -> bool:
    """Whether two plans are equal in what upstream looks at, which leaves dtypes out.

    Answers to ``planner_helpers._compare_save_plans``.
    """
    if plan.usable != other_plan.usable:
        return False
    same = native.same_items(plan.items, other_plan.items, False)
    return _stock.compare_save_plans(plan, other_plan) if same is None else same


def _create_write_items_for_dtensor(fqn: str, tensor: DTensor) -> WriteItem:
    """The write item of a DTensor's local shard; answers to ``_create_write_items_for_dtensor``."""
    plain = type(tensor) is DTensor and _hooks.save_untouched()
    items = native.write_items(fqn, tensor) if plain else None
    return _stock.create_write_items_for_dtensor(fqn, tensor) if items is None else items[0]


def _create_write_item_for_tensor(fqn: str, tensor: torch.Tensor) -> WriteItem:
    """The write item of a whole tensor; answers to ``_create_write_item_for_tensor``."""
    plain = type(tensor) is torch.Tensor or type(tensor) is torch.nn.Parameter
    items = native.write_items(fqn, tensor) if plain else None
    return _stock.create_write_item_for_tensor(fqn, tensor) if items is None else items[0]


def _create_write_items(fqn: str, object: Any) -> list[WriteItem]:
    """The write items of one entry of a state dict; answers to ``_create_write_items``."""
    items = native.write_items(fqn, object) if _hooks.save_untouched() else None
    return _stock.create_write_items(fqn, object) if items is None else items


def _create_chunk_from_tensor(tensor: torch.Tensor) -> ChunkStorageMetadata:
    """The box of a whole tensor; answers to ``_create_chunk_from_tensor``."""
    chunk = native.chunk_of_tensor(tensor)
    return _stock.create_chunk_from_tensor(tensor) if chunk is None else chunk


def _create_chunk_from_dtensor(tensor: DTensor) -> ChunkStorageMetadata:
    """The box of a DTensor's local shard; answers to ``_create_chunk_from_dtensor``."""
    chunk = native.chunk_of_dtensor(tensor) if _hooks.box_untouched() else None
    return _stock.create_chunk_from_dtensor(tensor) if chunk is None else chunk


def _create_chunk_list(tensor: torch.Tensor) -> list[ChunkStorageMetadata]:
    """The boxes that this rank holds of a tensor; answers to ``_create_chunk_list``."""
    chunk = native.chunk_of(tensor) if _hooks.load_untouched() else None
    return _stock.create_chunk_list(tensor) if chunk is None else [chunk]


def _create_read_items(fqn: str, md: STORAGE_TYPES, obj: Any) -> list[ReadItem]:
    """The reads of one entry of a state dict; answers to ``_create_read_items``."""
    if (
        type(md) is TensorStorageMetadata
        and isinstance(obj, torch.Tensor)
        and _hooks.load_untouched()
    ):
        with contextlib.suppress(ValueError):  # upstream words it
            return create_read_items_for_chunk_list(fqn, md, _create_chunk_list(obj))
    return _stock.create_read_items(fqn, md, obj)
