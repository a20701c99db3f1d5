"""Twins of ``torch.distributed.checkpoint.planner_helpers``.

Names, arguments, results and errors are those of upstream. Inputs that native code does not support
(subclasses, hooks, numbers beyond int64, broken metadata) fall back to the upstream function.
"""

from __future__ import annotations

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

from .. import fallbacks
from ..native import native
from ..upstream import originals, replaced_names
from .table import twin_of

__all__: list[str] = ["create_read_items_for_chunk_list"]


def _can_write_natively() -> bool:
    return replaced_names.SAVE.untouched("write items", fallbacks.count_entries)


def _can_read_natively() -> bool:
    return replaced_names.LOAD.untouched("read items", fallbacks.count_entries)


def _can_compute_box_natively() -> bool:
    return replaced_names.BOX.untouched("local box", fallbacks.count_entries)


def _count_fallback(step: str, obj: object) -> None:
    fallbacks.count_entries(f"{step}: an entry is a {fallbacks.kind_of(obj)}")


@twin_of(originals.create_read_items_for_chunk_list)
def create_read_items_for_chunk_list(
    fqn: str,
    checkpoint_md: TensorStorageMetadata,
    local_chunks: list[ChunkStorageMetadata],
) -> list[ReadItem]:
    """Returns the read items that load ``local_chunks`` from the saved chunks of a tensor.

    Twin of ``planner_helpers.create_read_items_for_chunk_list``; the order of the items is the
    same. The cost is near-linear in saved chunks + local chunks + read items, for any sharded dim.

    Args:
        fqn: key of the tensor in the checkpoint.
        checkpoint_md: metadata of the saved tensor.
        local_chunks: boxes to load.
    """
    if _can_read_natively():
        if type(checkpoint_md) is TensorStorageMetadata:
            columns = native.read_columns(fqn, checkpoint_md.chunks, local_chunks)
            if columns is not None:
                return columns.items()
        fallbacks.count_entries("read items: the chunks of a tensor cannot be read")
    return fallbacks.upstream(
        originals.create_read_items_for_chunk_list, fqn, checkpoint_md, local_chunks
    )


@twin_of(originals.compare_save_plans)
def _compare_save_plans(plan: SavePlan, other_plan: SavePlan) -> bool:
    """Returns whether two plans are equal in the fields that upstream compares (not dtypes).

    Twin of ``planner_helpers._compare_save_plans``.
    """
    if plan.usable != other_plan.usable:
        return False
    same = native.same_items(plan.items, other_plan.items, False)
    if same is not None:
        return same
    fallbacks.count_operation("comparison of two plans: an item cannot be read")
    return fallbacks.upstream(originals.compare_save_plans, plan, other_plan)


@twin_of(originals.create_write_items_for_dtensor)
def _create_write_items_for_dtensor(fqn: str, tensor: DTensor) -> WriteItem:
    """Returns the write item of a DTensor's local shard.

    Twin of ``planner_helpers._create_write_items_for_dtensor``.
    """
    if _can_write_natively():
        items = native.write_items(fqn, tensor) if type(tensor) is DTensor else None
        if items is not None:
            return items[0]
        _count_fallback("write items", tensor)
    return fallbacks.upstream(originals.create_write_items_for_dtensor, fqn, tensor)


@twin_of(originals.create_write_item_for_tensor)
def _create_write_item_for_tensor(fqn: str, tensor: torch.Tensor) -> WriteItem:
    """Returns the write item of an unsharded tensor.

    Twin of ``planner_helpers._create_write_item_for_tensor``.
    """
    if _can_write_natively():
        plain = type(tensor) is torch.Tensor or type(tensor) is torch.nn.Parameter
        items = native.write_items(fqn, tensor) if plain else None
        if items is not None:
            return items[0]
        _count_fallback("write items", tensor)
    return fallbacks.upstream(originals.create_write_item_for_tensor, fqn, tensor)


@twin_of(originals.create_write_items)
def _create_write_items(fqn: str, object: Any) -> list[WriteItem]:
    """Returns the write items of one state dict entry.

    Twin of ``planner_helpers._create_write_items``.
    """
    if _can_write_natively():
        items = native.write_items(fqn, object)
        if items is not None:
            return items
        if isinstance(object, DTensor) or not hasattr(object, "__create_write_items__"):
            _count_fallback("write items", object)
    return fallbacks.upstream(originals.create_write_items, fqn, object)


@twin_of(originals.create_chunk_from_tensor)
def _create_chunk_from_tensor(tensor: torch.Tensor) -> ChunkStorageMetadata:
    """Returns the chunk that spans an unsharded tensor.

    Twin of ``planner_helpers._create_chunk_from_tensor``.
    """
    if _can_compute_box_natively():
        chunk = native.chunk_of_tensor(tensor)
        if chunk is not None:
            return chunk
        _count_fallback("local box", tensor)
    return fallbacks.upstream(originals.create_chunk_from_tensor, tensor)


@twin_of(originals.create_chunk_from_dtensor)
def _create_chunk_from_dtensor(tensor: DTensor) -> ChunkStorageMetadata:
    """Returns the chunk of a DTensor's local shard.

    Twin of ``planner_helpers._create_chunk_from_dtensor``.
    """
    if _can_compute_box_natively():
        chunk = native.chunk_of_dtensor(tensor)
        if chunk is not None:
            return chunk
        _count_fallback("local box", tensor)
    return fallbacks.upstream(originals.create_chunk_from_dtensor, tensor)


@twin_of(originals.create_chunk_list)
def _create_chunk_list(tensor: torch.Tensor) -> list[ChunkStorageMetadata]:
    """Returns the chunks of a tensor that this rank holds.

    Twin of ``planner_helpers._create_chunk_list``.
    """
    if _can_read_natively():
        chunk = native.chunk_of(tensor)
        if chunk is not None:
            return [chunk]
        _count_fallback("local box", tensor)
    return fallbacks.upstream(originals.create_chunk_list, tensor)


@twin_of(originals.create_read_items)
def _create_read_items(fqn: str, md: STORAGE_TYPES, obj: Any) -> list[ReadItem]:
    """Returns the read items of one state dict entry.

    Twin of ``planner_helpers._create_read_items``.
    """
    if type(md) is TensorStorageMetadata and isinstance(obj, torch.Tensor) and _can_read_natively():
        with contextlib.suppress(ValueError):  # the upstream call below raises upstream's message
            return create_read_items_for_chunk_list(fqn, md, _create_chunk_list(obj))
    return fallbacks.upstream(originals.create_read_items, fqn, md, obj)
