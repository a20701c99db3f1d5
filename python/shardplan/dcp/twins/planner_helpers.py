"""Twins of ``torch.distributed.checkpoint.planner_helpers``.

Same names, arguments, results and errors. What native code does not read (subclasses, hooks,
numbers beyond int64, broken metadata) is handled by upstream's function.
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
from .table import answers

__all__: list[str] = ["create_read_items_for_chunk_list"]


def _native_writes() -> bool:
    return replaced_names.SAVE.untouched("write items", fallbacks.entry)


def _native_reads() -> bool:
    return replaced_names.LOAD.untouched("read items", fallbacks.entry)


def _native_box() -> bool:
    return replaced_names.BOX.untouched("local box", fallbacks.entry)


def _unread(step: str, obj: object) -> None:
    fallbacks.entry(f"{step}: an entry is a {fallbacks.kind_of(obj)}")


@answers(originals.create_read_items_for_chunk_list)
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
        fallbacks.entry("read items: the chunks of a tensor cannot be read")
    return fallbacks.upstream(
        originals.create_read_items_for_chunk_list, fqn, checkpoint_md, local_chunks
    )


@answers(originals.compare_save_plans)
def _compare_save_plans(plan: SavePlan, other_plan: SavePlan) -> bool:
    """Whether two plans are equal in what upstream looks at, which leaves dtypes out.

    Answers to ``planner_helpers._compare_save_plans``.
    """
    if plan.usable != other_plan.usable:
        return False
    same = native.same_items(plan.items, other_plan.items, False)
    if same is not None:
        return same
    fallbacks.whole("comparison of two plans: an item cannot be read")
    return fallbacks.upstream(originals.compare_save_plans, plan, other_plan)


@answers(originals.create_write_items_for_dtensor)
def _create_write_items_for_dtensor(fqn: str, tensor: DTensor) -> WriteItem:
    """The write item of a DTensor's local shard; answers to ``_create_write_items_for_dtensor``."""
    if _native_writes():
        items = native.write_items(fqn, tensor) if type(tensor) is DTensor else None
        if items is not None:
            return items[0]
        _unread("write items", tensor)
    return fallbacks.upstream(originals.create_write_items_for_dtensor, fqn, tensor)


@answers(originals.create_write_item_for_tensor)
def _create_write_item_for_tensor(fqn: str, tensor: torch.Tensor) -> WriteItem:
    """The write item of a whole tensor; answers to ``_create_write_item_for_tensor``."""
    if _native_writes():
        plain = type(tensor) is torch.Tensor or type(tensor) is torch.nn.Parameter
        items = native.write_items(fqn, tensor) if plain else None
        if items is not None:
            return items[0]
        _unread("write items", tensor)
    return fallbacks.upstream(originals.create_write_item_for_tensor, fqn, tensor)


@answers(originals.create_write_items)
def _create_write_items(fqn: str, object: Any) -> list[WriteItem]:
    """The write items of one entry of a state dict; answers to ``_create_write_items``."""
    if _native_writes():
        items = native.write_items(fqn, object)
        if items is not None:
            return items
        _unread("write items", object)
    return fallbacks.upstream(originals.create_write_items, fqn, object)


@answers(originals.create_chunk_from_tensor)
def _create_chunk_from_tensor(tensor: torch.Tensor) -> ChunkStorageMetadata:
    """The box of a whole tensor; answers to ``_create_chunk_from_tensor``."""
    if _native_box():
        chunk = native.chunk_of_tensor(tensor)
        if chunk is not None:
            return chunk
        _unread("local box", tensor)
    return fallbacks.upstream(originals.create_chunk_from_tensor, tensor)


@answers(originals.create_chunk_from_dtensor)
def _create_chunk_from_dtensor(tensor: DTensor) -> ChunkStorageMetadata:
    """The box of a DTensor's local shard; answers to ``_create_chunk_from_dtensor``."""
    if _native_box():
        chunk = native.chunk_of_dtensor(tensor)
        if chunk is not None:
            return chunk
        _unread("local box", tensor)
    return fallbacks.upstream(originals.create_chunk_from_dtensor, tensor)


@answers(originals.create_chunk_list)
def _create_chunk_list(tensor: torch.Tensor) -> list[ChunkStorageMetadata]:
    """The boxes that this rank holds of a tensor; answers to ``_create_chunk_list``."""
    if _native_reads():
        chunk = native.chunk_of(tensor)
        if chunk is not None:
            return [chunk]
        _unread("local box", tensor)
    return fallbacks.upstream(originals.create_chunk_list, tensor)


@answers(originals.create_read_items)
def _create_read_items(fqn: str, md: STORAGE_TYPES, obj: Any) -> list[ReadItem]:
    """The reads of one entry of a state dict; answers to ``_create_read_items``."""
    if type(md) is TensorStorageMetadata and isinstance(obj, torch.Tensor) and _native_reads():
        with contextlib.suppress(ValueError):  # upstream words it
            return create_read_items_for_chunk_list(fqn, md, _create_chunk_list(obj))
    return fallbacks.upstream(originals.create_read_items, fqn, md, obj)
