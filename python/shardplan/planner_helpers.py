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

from . import _fallbacks, _hooks, _stock
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


def _native_writes() -> bool:
    return _hooks.SAVE.untouched("write items", _fallbacks.entry)


def _native_reads() -> bool:
    return _hooks.LOAD.untouched("read items", _fallbacks.entry)


def _native_box() -> bool:
    return _hooks.BOX.untouched("local box", _fallbacks.entry)


def _unread(step: str, obj: object) -> None:
    _fallbacks.entry(f"{step}: an entry is a {_fallbacks.kind_of(obj)}")


def create_read_items_for_chunk_list(
    fqn: str,
    checkpoint_md: TensorStorageMetadata,
    local_chunks: list[ChunkStorageMetadata],
) -> list[ReadItem]:
    """The reads that satisfy ``local_chunks`` from the saved chunks of ``checkpoint_md``.

    Near-linear in saved + wanted + reads found, whichever dim is sharded. Answers to
    ``planner_helpers.create_read_items_for_chunk_list``, order included.
    """
    if _native_reads():
        if type(checkpoint_md) is TensorStorageMetadata:
            columns = native.read_columns(fqn, checkpoint_md.chunks, local_chunks)
            if columns is not None:
                return columns.items()
        _fallbacks.entry("read items: the chunks of a tensor cannot be read")
    return _fallbacks.upstream(
        _stock.create_read_items_for_chunk_list, fqn, checkpoint_md, local_chunks
    )


def _compare_save_plans(plan: SavePlan, other_plan: SavePlan) -> bool:
    """Whether two plans are equal in what upstream looks at, which leaves dtypes out.

    Answers to ``planner_helpers._compare_save_plans``.
    """
    if plan.usable != other_plan.usable:
        return False
    same = native.same_items(plan.items, other_plan.items, False)
    if same is not None:
        return same
    _fallbacks.whole("comparison of two plans: an item cannot be read")
    return _fallbacks.upstream(_stock.compare_save_plans, plan, other_plan)


def _create_write_items_for_dtensor(fqn: str, tensor: DTensor) -> WriteItem:
    """The write item of a DTensor's local shard; answers to ``_create_write_items_for_dtensor``."""
    if _native_writes():
        items = native.write_items(fqn, tensor) if type(tensor) is DTensor else None
        if items is not None:
            return items[0]
        _unread("write items", tensor)
    return _fallbacks.upstream(_stock.create_write_items_for_dtensor, fqn, tensor)


def _create_write_item_for_tensor(fqn: str, tensor: torch.Tensor) -> WriteItem:
    """The write item of a whole tensor; answers to ``_create_write_item_for_tensor``."""
    if _native_writes():
        plain = type(tensor) is torch.Tensor or type(tensor) is torch.nn.Parameter
        items = native.write_items(fqn, tensor) if plain else None
        if items is not None:
            return items[0]
        _unread("write items", tensor)
    return _fallbacks.upstream(_stock.create_write_item_for_tensor, fqn, tensor)


def _create_write_items(fqn: str, object: Any) -> list[WriteItem]:
    """The write items of one entry of a state dict; answers to ``_create_write_items``."""
    if _native_writes():
        items = native.write_items(fqn, object)
        if items is not None:
            return items
        _unread("write items", object)
    return _fallbacks.upstream(_stock.create_write_items, fqn, object)


def _create_chunk_from_tensor(tensor: torch.Tensor) -> ChunkStorageMetadata:
    """The box of a whole tensor; answers to ``_create_chunk_from_tensor``."""
    if _native_box():
        chunk = native.chunk_of_tensor(tensor)
        if chunk is not None:
            return chunk
        _unread("local box", tensor)
    return _fallbacks.upstream(_stock.create_chunk_from_tensor, tensor)


def _create_chunk_from_dtensor(tensor: DTensor) -> ChunkStorageMetadata:
    """The box of a DTensor's local shard; answers to ``_create_chunk_from_dtensor``."""
    if _native_box():
        chunk = native.chunk_of_dtensor(tensor)
        if chunk is not None:
            return chunk
        _unread("local box", tensor)
    return _fallbacks.upstream(_stock.create_chunk_from_dtensor, tensor)


def _create_chunk_list(tensor: torch.Tensor) -> list[ChunkStorageMetadata]:
    """The boxes that this rank holds of a tensor; answers to ``_create_chunk_list``."""
    if _native_reads():
        chunk = native.chunk_of(tensor)
        if chunk is not None:
            return [chunk]
        _unread("local box", tensor)
    return _fallbacks.upstream(_stock.create_chunk_list, tensor)


def _create_read_items(fqn: str, md: STORAGE_TYPES, obj: Any) -> list[ReadItem]:
    """The reads of one entry of a state dict; answers to ``_create_read_items``."""
    if type(md) is TensorStorageMetadata and isinstance(obj, torch.Tensor) and _native_reads():
        with contextlib.suppress(ValueError):  # upstream words it
            return create_read_items_for_chunk_list(fqn, md, _create_chunk_list(obj))
    return _fallbacks.upstream(_stock.create_read_items, fqn, md, obj)
