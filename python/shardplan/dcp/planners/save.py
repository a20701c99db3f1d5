"""The planner of saves."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan

from .. import fallbacks, wire
from ..twins import default_planner
from ..upstream import originals
from . import coordinator, plan_cache

__all__ = ["DefaultSavePlanner"]


class DefaultSavePlanner(originals.DefaultSavePlanner):
    """``torch.distributed.checkpoint.DefaultSavePlanner``, planned natively.

    The arguments, hooks, plans, metadata and errors are those of upstream.

    Args:
        flatten_state_dict, flatten_sharded_tensors, dedup_replicated_tensors,
            dedup_save_to_lowest_rank, enable_plan_caching: as upstream.
        cache_key: key of this planner's plans in the plan cache, if ``enable_plan_caching``.
            Planners that save different state dicts in turn need different keys. Default: module
            and name of the class.
        dedup: which of the ranks that hold a replica writes it. ``upstream``: the one that upstream
            chooses. ``bytes``: the one with which the ranks write the most even numbers of bytes;
            what a rank writes anyway counts, and equal state dicts have equal plans. The planner of
            the coordinator decides. Any reader loads the checkpoint.

    Raises:
        ValueError: ``dedup`` is unknown, or is ``bytes`` with ``dedup_save_to_lowest_rank``.
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
        dedup: str = "upstream",
    ) -> None:
        if dedup not in ("upstream", "bytes"):
            raise ValueError(f"dedup must be 'upstream' or 'bytes', not {dedup!r}")
        if dedup == "bytes" and dedup_save_to_lowest_rank:
            raise ValueError("dedup='bytes' contradicts dedup_save_to_lowest_rank")
        super().__init__(
            flatten_state_dict,
            flatten_sharded_tensors,
            dedup_replicated_tensors,
            dedup_save_to_lowest_rank,
            enable_plan_caching,
        )
        self._dedup = dedup
        cls = type(self)
        self._cached_plans_key = cache_key or f"{cls.__module__}.{cls.__qualname__}"

    def set_up_planner(
        self,
        state_dict: dict[str, Any],
        storage_meta: StorageMeta | None = coordinator.NOT_GIVEN,
        is_coordinator: bool = False,
    ) -> None:
        wire.install()
        coordinator.set_up_planner(self, state_dict, storage_meta, is_coordinator)

    def create_local_plan(self) -> SavePlan:
        began = time.perf_counter()
        plan: SavePlan = coordinator.current(default_planner.create_default_local_save_plan)(
            self.state_dict, self.is_coordinator
        )
        self._local_plan_seconds = time.perf_counter() - began
        if self.flatten_state_dict:
            plan = dataclasses.replace(plan, planner_data=self.mappings)
        self.plan = plan
        return plan_cache.local_plan(self, plan) if self._enable_plan_caching else plan

    def _dedup_save_plans(self, all_plans: list[SavePlan]) -> list[SavePlan]:
        if self._dedup == "bytes":
            balanced = default_planner.deduped(all_plans, "balanced")
            if balanced is not None:
                return balanced
            fallbacks.count_operation(
                "dedup: the bytes of an item are unknown, so upstream's rule is used"
            )
        plans: list[SavePlan] = coordinator.current(default_planner.dedup_save_plans)(
            all_plans, self.dedup_save_to_lowest_rank
        )
        return plans

    def _create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        return coordinator.create_global_plan(self, all_plans)

    def _create_global_plan_with_caching(
        self, all_plans: list[SavePlan]
    ) -> tuple[list[SavePlan], list[SavePlan], Metadata]:
        return plan_cache.global_plan(self, all_plans)

    def _finish_plan_with_caching(self, new_plan: SavePlan) -> SavePlan:
        return plan_cache.final_plan(self, new_plan)

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        return coordinator.finish_plan(self, new_plan)
