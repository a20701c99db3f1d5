"""Twins of ``torch.distributed.checkpoint.default_planner``.

Same names, arguments, results and errors. What native code does not read (subclasses, hooks,
numbers beyond int64, broken metadata) is answered by the stock function.
"""

from __future__ import annotations

from . import _fit

# isort: split
import dataclasses
import time
from typing import Any

import torch
from torch.distributed.checkpoint import _version
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    StorageMeta,
)
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem, SavePlan, WriteItem

from . import (
    _coordinator,
    _fallbacks,
    _hooks,
    _load_errors,
    _plan_cache,
    _plan_errors,
    _plan_log,
    _stock,
    _wire,
)
from ._items import Items
from ._native import native
from ._stock import create_default_global_load_plan
from ._stock import create_default_local_metadata as _create_default_local_metadata

__all__ = [
    "DefaultLoadPlanner",
    "DefaultSavePlanner",
    "create_default_global_load_plan",
    "create_default_global_save_plan",
    "create_default_local_load_plan",
    "create_default_local_save_plan",
]


def create_default_local_save_plan(state_dict: dict[str, Any], is_coordinator: bool) -> SavePlan:
    """The save plan of one rank, as columns until its items are touched.

    Answers to ``default_planner.create_default_local_save_plan``.
    """
    if not isinstance(state_dict, dict):
        _fallbacks.whole(f"local save plan: the state dict is a {type(state_dict).__name__}")
        return _fallbacks.upstream(
            _stock.create_default_local_save_plan, state_dict, is_coordinator
        )
    if not _hooks.SAVE.untouched("local save plan"):
        return _fallbacks.upstream(
            _stock.create_default_local_save_plan, state_dict, is_coordinator
        )

    def foreign(fqn: str, obj: object) -> list[WriteItem]:
        items: list[WriteItem]
        items = _fallbacks.upstream(
            _stock.create_default_local_save_plan, {fqn: obj}, is_coordinator
        ).items
        _fallbacks.entry(f"local save plan: an entry is a {_fallbacks.kind_of(obj)}")
        return items

    return SavePlan(Items.from_columns(native.save_columns(state_dict, foreign)))


def create_default_local_load_plan(
    state_dict: dict[str, Any], metadata: Metadata, strict: bool = True
) -> LoadPlan:
    """The load plan of one rank, as columns until its items are touched.

    Answers to ``default_planner.create_default_local_load_plan``: RuntimeError for a key that the
    checkpoint lacks (unless not ``strict``), ValueError for a size that differs.
    """
    saved = getattr(metadata, "state_dict_metadata", None)
    if not isinstance(state_dict, dict) or type(saved) is not dict:
        _fallbacks.whole(
            f"local load plan: the state dict is a {type(state_dict).__name__}, "
            f"the metadata's a {type(saved).__name__}"
        )
        return _fallbacks.upstream(
            _stock.create_default_local_load_plan, state_dict, metadata, strict
        )
    if not _hooks.LOAD.untouched("local load plan"):
        return _fallbacks.upstream(
            _stock.create_default_local_load_plan, state_dict, metadata, strict
        )

    def foreign(fqn: str, obj: object) -> list[ReadItem]:
        items: list[ReadItem]
        items = _fallbacks.upstream(
            _stock.create_default_local_load_plan, {fqn: obj}, metadata, strict
        ).items
        _fallbacks.entry(
            f"local load plan: an entry is a {_fallbacks.kind_of(obj)}, "
            f"saved as {_fallbacks.kind_of(saved.get(fqn))}"
        )
        return items

    return LoadPlan(
        Items.from_columns(native.load_columns(state_dict, saved, bool(strict), foreign))
    )


def dedup_save_plans(
    all_plans: list[SavePlan], save_to_lowest_rank: bool = False
) -> list[SavePlan]:
    """The plans without what another one writes, as columns until their items are touched.

    Answers to ``_dedup_save_plans.dedup_save_plans``, ties included.
    """
    all_plans = list(all_plans)
    if not _hooks.GLOBAL.untouched("dedup"):
        return _fallbacks.upstream(_stock.dedup_save_plans, all_plans, save_to_lowest_rank)
    kept = native.dedup([plan.items for plan in all_plans], bool(save_to_lowest_rank))
    if kept is None:
        _fallbacks.whole("dedup: the key, kind or box of an item cannot be read")
        return _fallbacks.upstream(_stock.dedup_save_plans, all_plans, save_to_lowest_rank)
    return [
        dataclasses.replace(plan, items=Items.from_columns(columns))
        for plan, columns in zip(all_plans, kept, strict=True)
    ]


def create_default_global_save_plan(
    all_plans: list[SavePlan], rewrite_index_hints: bool = True
) -> tuple[list[SavePlan], Metadata]:
    """The plans with their index hints, and the metadata; items and chunks made when touched.

    Answers to ``default_planner.create_default_global_save_plan``: AssertionError for a name that
    is written twice and is not sharded.
    """
    all_plans = list(all_plans)
    if not _hooks.GLOBAL.untouched("global save plan"):
        return _fallbacks.upstream(
            _stock.create_default_global_save_plan, all_plans, rewrite_index_hints
        )
    planned = None
    if rewrite_index_hints:
        planned = native.plan_globally([plan.items for plan in all_plans], Items.from_columns)
    if planned is None:
        _fallbacks.whole(
            "global save plan: an item cannot be read, or a name is written twice"
            if rewrite_index_hints
            else "global save plan: rewrite_index_hints=False"
        )
        return _fallbacks.upstream(
            _stock.create_default_global_save_plan, all_plans, rewrite_index_hints
        )
    columns, metadata = planned
    plans = [
        dataclasses.replace(plan, items=Items.from_columns(of_plan))
        for plan, of_plan in zip(all_plans, columns, strict=True)
    ]
    return plans, Metadata(metadata)


def _check_box_overlap(box0: ChunkStorageMetadata, box1: ChunkStorageMetadata) -> bool:
    """Whether two chunks overlap; answers to ``default_planner._check_box_overlap``."""
    overlap = native.chunks_overlap(box0, box1)
    if overlap is not None:
        return overlap
    answer: bool = _stock.check_box_overlap(box0, box1)
    _fallbacks.entry("overlap of two boxes: a chunk cannot be read")
    return answer


def _check_box_bounds(outer_box_size: torch.Size, inner_box: ChunkStorageMetadata) -> bool:
    """Whether a chunk lies in a tensor of this size; answers to ``_check_box_bounds``."""
    inside = native.chunk_in_bounds(outer_box_size, inner_box)
    if inside is not None:
        return inside
    answer: bool = _stock.check_box_bounds(outer_box_size, inner_box)
    _fallbacks.entry("bounds of a box: a chunk or size cannot be read")
    return answer


def _validate_global_plan(global_plan: list[SavePlan], metadata: Metadata) -> Any:
    """What is wrong with a global plan: messages, none if nothing is (torch 2.11: a bool).

    Near-linear in the chunks, and in what is found. Answers to
    ``default_planner._validate_global_plan``.
    """
    if not _plan_errors.is_native(global_plan, metadata):
        return _fallbacks.upstream(_stock.validate_global_plan, global_plan, metadata)
    saved = metadata.state_dict_metadata
    suspects = native.suspects(saved, len(global_plan) > 1)
    return _plan_errors.messages(global_plan, metadata, suspects)


class DefaultSavePlanner(_stock.DefaultSavePlanner):
    """``torch.distributed.checkpoint.DefaultSavePlanner``, planned natively.

    Same arguments, hooks, plans, metadata and errors.

    cache_key: with ``enable_plan_caching``, what this planner's plans are cached under; planners
        that save different things in turn need one each. Default: the class, with its module.
    """

    def __init__(
        self,
        flatten_state_dict: bool = True,
        flatten_sharded_tensors: bool = True,
        dedup_replicated_tensors: bool | None = None,
        dedup_save_to_lowest_rank: bool = False,
        enable_plan_caching: bool = False,
        *,
        cache_key: str | None = None,
    ) -> None:
        super().__init__(
            flatten_state_dict,
            flatten_sharded_tensors,
            dedup_replicated_tensors,
            dedup_save_to_lowest_rank,
            enable_plan_caching,
        )
        cls = type(self)
        self._cached_plans_key = cache_key or f"{cls.__module__}.{cls.__qualname__}"

    def set_up_planner(
        self,
        state_dict: dict[str, Any],
        storage_meta: StorageMeta | None = None,
        is_coordinator: bool = False,
    ) -> None:
        _wire.install()
        _coordinator.set_up_planner(self, state_dict, storage_meta, is_coordinator)

    def create_local_plan(self) -> SavePlan:
        began = time.perf_counter()
        plan: SavePlan = _coordinator.current("create_default_local_save_plan")(
            self.state_dict, self.is_coordinator
        )
        self._local_plan_seconds = time.perf_counter() - began
        if self.flatten_state_dict:
            plan = dataclasses.replace(plan, planner_data=self.mappings)
        self.plan = plan
        return _plan_cache.local_plan(self, plan) if self._enable_plan_caching else plan

    def _dedup_save_plans(self, all_plans: list[SavePlan]) -> list[SavePlan]:
        plans: list[SavePlan] = _coordinator.current("dedup_save_plans")(
            all_plans, self.dedup_save_to_lowest_rank
        )
        return plans

    def _create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        return _coordinator.create_global_plan(self, all_plans)

    def _create_global_plan_with_caching(
        self, all_plans: list[SavePlan]
    ) -> tuple[list[SavePlan], list[SavePlan], Metadata]:
        return _plan_cache.global_plan(self, all_plans)

    def _finish_plan_with_caching(self, new_plan: SavePlan) -> SavePlan:
        return _plan_cache.final_plan(self, new_plan)

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        return _coordinator.finish_plan(self, new_plan)


class DefaultLoadPlanner(_stock.DefaultLoadPlanner):
    """``torch.distributed.checkpoint.DefaultLoadPlanner``, planned natively.

    Same arguments, hooks, plans and errors; an error goes on, after upstream's words, to say all
    that does not fit, and has it in its ``report``.

    strict: whether a key that the checkpoint lacks is an error; if not, it keeps its value, as with
        ``allow_partial_load=True``
    check_dtype: whether a tensor that was saved with another dtype, or as an object, is an error
    check_coverage: whether a region that no saved box covers is an error; else it keeps its values

    missing_keys, unexpected_keys: after planning, the keys that the checkpoint lacks, and those of
        it that nobody asked for
    """

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __init__(
        self,
        flatten_state_dict: bool = True,
        flatten_sharded_tensors: bool = True,
        allow_partial_load: bool = False,
        *,
        strict: bool = True,
        check_dtype: bool = False,
        check_coverage: bool = False,
    ) -> None:
        super().__init__(
            flatten_state_dict, flatten_sharded_tensors, allow_partial_load or not strict
        )
        self.check_dtype = check_dtype
        self.check_coverage = check_coverage
        self.missing_keys = []
        self.unexpected_keys = []

    def set_up_planner(
        self,
        state_dict: dict[str, Any],
        metadata: Metadata | None = None,
        is_coordinator: bool = False,
    ) -> None:
        _wire.install()
        super().set_up_planner(state_dict, metadata, is_coordinator)

    def create_local_plan(self) -> LoadPlan:
        if self.metadata is None:
            raise AssertionError("self.metadata is not None")
        stages = _plan_log.Stages()
        if self.flatten_state_dict:
            self._adopt_keys_of_old_checkpoint(self.metadata)
        self.missing_keys, self.unexpected_keys = _load_errors.keys(self.state_dict, self.metadata)
        with _load_errors.explained(self):
            plan: LoadPlan = _coordinator.current("create_default_local_load_plan")(
                self.state_dict, self.metadata, not self.allow_partial_load
            )
        if self.check_dtype:
            _load_errors.check_dtypes(self.state_dict, self.metadata)
        if self.check_coverage:
            _load_errors.check_coverage(self.state_dict, self.metadata)
        stages.done("local plan")
        self._stages = stages
        return plan

    def create_global_plan(self, global_plan: list[LoadPlan]) -> list[LoadPlan]:
        planned: list[LoadPlan] = super().create_global_plan(global_plan)
        _plan_log.loaded(planned, self.metadata, vars(self).pop("_stages", _plan_log.Stages()))
        return planned

    def _adopt_keys_of_old_checkpoint(self, metadata: Metadata) -> None:
        """Flattens the state dict as torch 2.3 did, where that finds keys of the checkpoint."""
        current = set(self.state_dict.keys())
        missing = set(metadata.state_dict_metadata.keys()) - current
        if not missing:
            return
        _version._derived_version = "2_3"
        try:
            state_dict, mappings = flatten_state_dict(self.original_state_dict)
        finally:
            _version._derived_version = None
        if missing.intersection(state_dict):
            self.state_dict, self.mappings = state_dict, mappings


class _EmptyStateDictLoadPlanner(_stock.EmptyStateDictLoadPlanner, DefaultLoadPlanner):
    """``default_planner._EmptyStateDictLoadPlanner``, planned natively."""
