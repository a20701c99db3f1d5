"""Twins of ``torch.distributed.checkpoint.default_planner``.

Same names, arguments, results and errors. What native code does not read (subclasses, hooks,
numbers beyond int64, broken metadata) is handled by upstream's function.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem, SavePlan, WriteItem

from .. import fallbacks
from ..lazy.items import Items
from ..native import native
from ..upstream import originals, replaced_names
from . import validation
from .table import answers

__all__ = [
    "create_default_global_save_plan",
    "create_default_local_load_plan",
    "create_default_local_save_plan",
]


def _saves_natively(state_dict: object) -> bool:
    """Whether native code makes the local save plan; if not, that is counted as a fallback."""
    if isinstance(state_dict, dict):
        return replaced_names.SAVE.untouched("local save plan")
    fallbacks.whole(f"local save plan: the state dict is a {type(state_dict).__name__}")
    return False


def _loads_natively(state_dict: object, saved: object) -> bool:
    """Whether native code makes the local load plan; if not, that is counted as a fallback.

    saved: the ``state_dict_metadata`` to load from
    """
    if isinstance(state_dict, dict) and type(saved) is dict:
        return replaced_names.LOAD.untouched("local load plan")
    fallbacks.whole(
        f"local load plan: the state dict is a {type(state_dict).__name__}, "
        f"the metadata's a {type(saved).__name__}"
    )
    return False


@answers(originals.create_default_local_save_plan)
def create_default_local_save_plan(state_dict: dict[str, Any], is_coordinator: bool) -> SavePlan:
    """The save plan of one rank, as columns until its items are touched.

    Answers to ``default_planner.create_default_local_save_plan``.
    """
    if not _saves_natively(state_dict):
        return fallbacks.upstream(
            originals.create_default_local_save_plan, state_dict, is_coordinator
        )

    def foreign(fqn: str, obj: object) -> list[WriteItem]:
        items: list[WriteItem]
        items = fallbacks.upstream(
            originals.create_default_local_save_plan, {fqn: obj}, is_coordinator
        ).items
        fallbacks.entry(f"local save plan: an entry is a {fallbacks.kind_of(obj)}")
        return items

    return SavePlan(Items.from_columns(native.save_columns(state_dict, foreign)))


@answers(originals.create_default_local_load_plan)
def create_default_local_load_plan(
    state_dict: dict[str, Any], metadata: Metadata, strict: bool = True
) -> LoadPlan:
    """The load plan of one rank, as columns until its items are touched.

    Answers to ``default_planner.create_default_local_load_plan``: RuntimeError for a key that the
    checkpoint lacks (unless not ``strict``), ValueError for a size that differs.
    """
    saved: Any = getattr(metadata, "state_dict_metadata", None)
    if not _loads_natively(state_dict, saved):
        return fallbacks.upstream(
            originals.create_default_local_load_plan, state_dict, metadata, strict
        )

    def foreign(fqn: str, obj: object) -> list[ReadItem]:
        items: list[ReadItem]
        items = fallbacks.upstream(
            originals.create_default_local_load_plan, {fqn: obj}, metadata, strict
        ).items
        fallbacks.entry(
            f"local load plan: an entry is a {fallbacks.kind_of(obj)}, "
            f"saved as {fallbacks.kind_of(saved.get(fqn))}"
        )
        return items

    return LoadPlan(
        Items.from_columns(native.load_columns(state_dict, saved, bool(strict), foreign))
    )


@answers(originals.dedup_save_plans)
def dedup_save_plans(
    all_plans: list[SavePlan], save_to_lowest_rank: bool = False
) -> list[SavePlan]:
    """The plans without what another one writes, as columns until their items are touched.

    Answers to ``_dedup_save_plans.dedup_save_plans``, ties included.
    """
    all_plans = list(all_plans)
    if not replaced_names.GLOBAL.untouched("dedup"):
        return fallbacks.upstream(originals.dedup_save_plans, all_plans, save_to_lowest_rank)
    kept = native.dedup([plan.items for plan in all_plans], bool(save_to_lowest_rank))
    if kept is None:
        fallbacks.whole("dedup: the key, kind or box of an item cannot be read")
        return fallbacks.upstream(originals.dedup_save_plans, all_plans, save_to_lowest_rank)
    return [
        dataclasses.replace(plan, items=Items.from_columns(columns))
        for plan, columns in zip(all_plans, kept, strict=True)
    ]


@answers(originals.create_default_global_save_plan)
def create_default_global_save_plan(
    all_plans: list[SavePlan], rewrite_index_hints: bool = True
) -> tuple[list[SavePlan], Metadata]:
    """The plans with their index hints, and the metadata; items and chunks made when touched.

    Answers to ``default_planner.create_default_global_save_plan``: AssertionError for a name that
    is written twice and is not sharded.
    """
    all_plans = list(all_plans)
    if not replaced_names.GLOBAL.untouched("global save plan"):
        return fallbacks.upstream(
            originals.create_default_global_save_plan, all_plans, rewrite_index_hints
        )
    planned = None
    if rewrite_index_hints:
        planned = native.plan_globally([plan.items for plan in all_plans], Items.from_columns)
    if planned is None:
        fallbacks.whole(
            "global save plan: an item cannot be read, or a name is written twice"
            if rewrite_index_hints
            else "global save plan: rewrite_index_hints=False"
        )
        return fallbacks.upstream(
            originals.create_default_global_save_plan, all_plans, rewrite_index_hints
        )
    columns, metadata = planned
    plans = [
        dataclasses.replace(plan, items=Items.from_columns(of_plan))
        for plan, of_plan in zip(all_plans, columns, strict=True)
    ]
    return plans, Metadata(metadata)


@answers(originals.check_box_overlap)
def _check_box_overlap(box0: ChunkStorageMetadata, box1: ChunkStorageMetadata) -> bool:
    """Whether two chunks overlap; answers to ``default_planner._check_box_overlap``."""
    return fallbacks.or_upstream(
        native.chunks_overlap(box0, box1),
        "overlap of two boxes: a chunk cannot be read",
        originals.check_box_overlap,
        box0,
        box1,
    )


@answers(originals.check_box_bounds)
def _check_box_bounds(outer_box_size: torch.Size, inner_box: ChunkStorageMetadata) -> bool:
    """Whether a chunk lies in a tensor of this size; answers to ``_check_box_bounds``."""
    return fallbacks.or_upstream(
        native.chunk_in_bounds(outer_box_size, inner_box),
        "bounds of a box: a chunk or size cannot be read",
        originals.check_box_bounds,
        outer_box_size,
        inner_box,
    )


@answers(originals.validate_global_plan)
def _validate_global_plan(global_plan: list[SavePlan], metadata: Metadata) -> Any:
    """What is wrong with a global plan: messages, none if nothing is (torch 2.11: a bool).

    Near-linear in the chunks, and in what is found. Answers to
    ``default_planner._validate_global_plan``.
    """
    if not validation.is_native(global_plan, metadata):
        return fallbacks.upstream(originals.validate_global_plan, global_plan, metadata)
    saved = metadata.state_dict_metadata
    suspects = native.suspects(saved, len(global_plan) > 1)
    return validation.messages(global_plan, metadata, suspects)
