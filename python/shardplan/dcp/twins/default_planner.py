"""Twins of ``torch.distributed.checkpoint.default_planner``.

Names, arguments, results and errors are those of upstream. Inputs that native code does not support
(subclasses, hooks, numbers beyond int64, broken metadata) fall back to the upstream function.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem, SavePlan, WriteItem

from .. import fallbacks
from ..lazy.items import LazyList
from ..native import native
from ..upstream import originals, replaced_names
from . import validation
from .table import twin_of

__all__ = [
    "create_default_global_save_plan",
    "create_default_local_load_plan",
    "create_default_local_save_plan",
]


def _can_save_natively(state_dict: object) -> bool:
    """Returns whether native code can create the local save plan; counts a fallback if not."""
    if isinstance(state_dict, dict):
        return replaced_names.SAVE.untouched("local save plan")
    fallbacks.count_operation(f"local save plan: the state dict is a {type(state_dict).__name__}")
    return False


def _can_load_natively(state_dict: object, saved: object) -> bool:
    """Returns whether native code can create the local load plan; counts a fallback if not.

    Args:
        state_dict: the state dict to load into.
        saved: the ``state_dict_metadata`` to load from.
    """
    if isinstance(state_dict, dict) and type(saved) is dict:
        return replaced_names.LOAD.untouched("local load plan")
    fallbacks.count_operation(
        f"local load plan: the state dict is a {type(state_dict).__name__}, "
        f"state_dict_metadata is a {type(saved).__name__}"
    )
    return False


@twin_of(originals.create_default_local_save_plan)
def create_default_local_save_plan(state_dict: dict[str, Any], is_coordinator: bool) -> SavePlan:
    """Creates the save plan of one rank. Its items are lazy.

    Twin of ``default_planner.create_default_local_save_plan``.

    Args:
        state_dict: the flattened state dict.
        is_coordinator: whether this rank is the coordinator.
    """
    if not _can_save_natively(state_dict):
        return fallbacks.upstream(
            originals.create_default_local_save_plan, state_dict, is_coordinator
        )

    def upstream_items(fqn: str, obj: object) -> list[WriteItem]:
        items: list[WriteItem]
        items = fallbacks.upstream(
            originals.create_default_local_save_plan, {fqn: obj}, is_coordinator
        ).items
        fallbacks.count_entries(f"local save plan: an entry is a {fallbacks.kind_of(obj)}")
        return items

    return SavePlan(LazyList.from_columns(native.save_columns(state_dict, upstream_items)))


@twin_of(originals.create_default_local_load_plan)
def create_default_local_load_plan(
    state_dict: dict[str, Any], metadata: Metadata, strict: bool = True
) -> LoadPlan:
    """Creates the load plan of one rank. Its items are lazy.

    Twin of ``default_planner.create_default_local_load_plan``.

    Args:
        state_dict: the flattened state dict to load into.
        metadata: metadata of the checkpoint.
        strict: if true, a key that is missing in the checkpoint is an error; otherwise the key is
            skipped.

    Raises:
        RuntimeError: a key is missing in the checkpoint and ``strict`` is true.
        ValueError: a saved tensor and the tensor to load into differ in size.
    """
    saved: Any = getattr(metadata, "state_dict_metadata", None)
    if not _can_load_natively(state_dict, saved):
        return fallbacks.upstream(
            originals.create_default_local_load_plan, state_dict, metadata, strict
        )

    def upstream_items(fqn: str, obj: object, *listed: Any) -> list[ReadItem]:
        items: list[ReadItem]
        if listed:  # the chunks, which the object has listed
            items = fallbacks.upstream(
                originals.create_read_items_for_chunk_list, fqn, saved[fqn], *listed
            )
        else:
            items = fallbacks.upstream(
                originals.create_default_local_load_plan, {fqn: obj}, metadata, strict
            ).items
        fallbacks.count_entries(
            f"local load plan: an entry is a {fallbacks.kind_of(obj)}, "
            f"saved as {fallbacks.kind_of(saved.get(fqn))}"
        )
        return items

    return LoadPlan(
        LazyList.from_columns(native.load_columns(state_dict, saved, bool(strict), upstream_items))
    )


@twin_of(originals.dedup_save_plans)
def dedup_save_plans(
    all_plans: list[SavePlan], save_to_lowest_rank: bool = False
) -> list[SavePlan]:
    """Removes items that several plans write from all plans but one. The resulting items are lazy.

    Twin of ``_dedup_save_plans.dedup_save_plans``; it breaks ties in the same way.

    Args:
        all_plans: the save plan of each rank.
        save_to_lowest_rank: if true, the lowest rank keeps an item; otherwise the rank with the
            least bytes so far.
    """
    all_plans = list(all_plans)
    if not replaced_names.GLOBAL.untouched("dedup"):
        return fallbacks.upstream(originals.dedup_save_plans, all_plans, save_to_lowest_rank)
    kept = deduped(all_plans, "lowest rank" if save_to_lowest_rank else "fewest bytes")
    if kept is None:
        fallbacks.count_operation("dedup: the key, kind or box of an item cannot be read")
        return fallbacks.upstream(originals.dedup_save_plans, all_plans, save_to_lowest_rank)
    return kept


def deduped(all_plans: list[SavePlan], keeper: str) -> list[SavePlan] | None:
    """Removes items that several plans write from all plans but one. The resulting items are lazy.

    Args:
        all_plans: the save plan of each rank.
        keeper: which plan keeps an item: ``fewest bytes`` and ``lowest rank`` are upstream's rules,
            and ``balanced`` balances the bytes of all ranks.

    Returns:
        The plans; None if an item cannot be read.
    """
    kept = native.dedup([plan.items for plan in all_plans], keeper)
    if kept is None:
        return None
    return [
        dataclasses.replace(plan, items=LazyList.from_columns(columns))
        for plan, columns in zip(all_plans, kept, strict=True)
    ]


@twin_of(originals.create_default_global_save_plan)
def create_default_global_save_plan(
    all_plans: list[SavePlan], rewrite_index_hints: bool = True
) -> tuple[list[SavePlan], Metadata]:
    """Creates the global save plan and the metadata. Items and chunks are lazy.

    Twin of ``default_planner.create_default_global_save_plan``.

    Args:
        all_plans: the deduplicated save plan of each rank.
        rewrite_index_hints: whether to set the index of each item to its position in the chunks of
            its tensor.

    Returns:
        The plan of each rank, and the metadata without storage_data.

    Raises:
        AssertionError: a key that is not sharded is written twice.
    """
    all_plans = list(all_plans)
    if not replaced_names.GLOBAL.untouched("global save plan"):
        return fallbacks.upstream(
            originals.create_default_global_save_plan, all_plans, rewrite_index_hints
        )
    planned = None
    if rewrite_index_hints:
        planned = native.plan_globally([plan.items for plan in all_plans], LazyList.from_columns)
    if planned is None:
        fallbacks.count_operation(
            "global save plan: an item cannot be read, or a name is written twice"
            if rewrite_index_hints
            else "global save plan: rewrite_index_hints=False"
        )
        return fallbacks.upstream(
            originals.create_default_global_save_plan, all_plans, rewrite_index_hints
        )
    columns, metadata = planned
    plans = [
        dataclasses.replace(plan, items=LazyList.from_columns(plan_columns))
        for plan, plan_columns in zip(all_plans, columns, strict=True)
    ]
    return plans, Metadata(metadata)


@twin_of(originals.check_box_overlap)
def _check_box_overlap(box0: ChunkStorageMetadata, box1: ChunkStorageMetadata) -> bool:
    """Returns whether two chunks overlap. Twin of ``default_planner._check_box_overlap``."""
    return fallbacks.or_upstream(
        native.chunks_overlap(box0, box1),
        "overlap of two boxes: a chunk cannot be read",
        originals.check_box_overlap,
        box0,
        box1,
    )


@twin_of(originals.check_box_bounds)
def _check_box_bounds(outer_box_size: torch.Size, inner_box: ChunkStorageMetadata) -> bool:
    """Returns whether a chunk lies within a tensor of size ``outer_box_size``.

    Twin of ``default_planner._check_box_bounds``.
    """
    return fallbacks.or_upstream(
        native.chunk_in_bounds(outer_box_size, inner_box),
        "bounds of a box: a chunk or size cannot be read",
        originals.check_box_bounds,
        outer_box_size,
        inner_box,
    )


@twin_of(originals.validate_global_plan)
def _validate_global_plan(global_plan: list[SavePlan], metadata: Metadata) -> Any:
    """Validates a global save plan.

    Twin of ``default_planner._validate_global_plan``. The cost is near-linear in the number of
    chunks and of errors.

    Returns:
        The error messages; empty if the plan is valid. With torch 2.11, a bool: true if valid.
    """
    if not validation.is_native(global_plan, metadata):
        return fallbacks.upstream(originals.validate_global_plan, global_plan, metadata)
    saved = metadata.state_dict_metadata
    suspects = native.suspects(saved, len(global_plan) > 1)
    return validation.messages(global_plan, metadata, suspects)
