"""Plan caching (``enable_plan_caching=True``) in the class dicts of upstream's ``SavePlanner``.

The caches have upstream's meaning, with four corrections: plans are compared in all their fields, a
global plan that failed is not cached, a rank uses its cache only if it saw the last save finish,
and ``storage_data`` is always that of the current save.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner

from .. import fallbacks
from ..native import native
from ..upstream import originals

logger = logging.getLogger(__name__)

# Cache keys of saves that this rank has started but not seen finish. Its cached plan may differ
# from the coordinator's.
_unfinished: set[str] = set()


def _unchanged(storage_data: Any) -> SavePlan:
    """Returns the plan that tells the receiver to use its cached plan."""
    return SavePlan([], storage_data=storage_data, usable=False)


def same_plan(plan: SavePlan, other: SavePlan) -> bool:
    """Returns whether two plans are equal in all fields, the order of mappings included."""
    if plan.usable != other.usable or plan.planner_data != other.planner_data:
        return False
    if isinstance(plan.planner_data, dict) and list(plan.planner_data) != list(other.planner_data):
        return False
    same = native.same_items(plan.items, other.items, True)
    if same is None:
        fallbacks.count_operation("comparison with a cached plan: an item cannot be read")
        return originals.compare_save_plans(plan, other) and plan.items == other.items
    return same


def local_plan(planner: Any, plan: SavePlan) -> SavePlan:
    """Returns what a rank sends to the coordinator: its plan, or an unusable one if unchanged."""
    # Left by a failed save; it must not be cached when this save finishes.
    vars(planner).pop("_pending_local_plan", None)
    key = planner._cached_plans_key
    finished = key not in _unfinished
    _unfinished.add(key)
    cached = SavePlanner._cached_save_plan.get(key)
    if cached is not None and finished and same_plan(plan, cached):
        logger.info("No change in the local plan. Skipping sending the plan to the coordinator")
        return _unchanged(None)
    planner._pending_local_plan = plan
    return plan


def final_plan(planner: Any, new_plan: SavePlan) -> SavePlan:
    """Returns the plan that a rank executes, taken from the cache if it has not changed.

    Twin of ``DefaultSavePlanner._finish_plan_with_caching``.
    """
    key = planner._cached_plans_key
    if new_plan.usable:
        final = SavePlanner._cached_final_save_plan[key] = new_plan
    else:
        cached = SavePlanner._cached_final_save_plan[key]
        final = dataclasses.replace(cached, storage_data=new_plan.storage_data)
    _unfinished.discard(key)
    # torch later than 2.11 does this in finish_plan.
    if (pending := vars(planner).pop("_pending_local_plan", None)) is not None:
        SavePlanner._cached_save_plan[key] = pending
    return final


def global_plan(
    planner: Any, all_plans: list[SavePlan]
) -> tuple[list[SavePlan], list[SavePlan], Metadata]:
    """Creates the global plan, or takes it from the cache if no rank's plan has changed.

    Twin of ``DefaultSavePlanner._create_global_plan_with_caching``.

    Args:
        planner: the save planner of the coordinator.
        all_plans: the plan of each rank; unusable if it has not changed.

    Returns:
        The plans to scatter, the global plan, and the metadata.

    Raises:
        RuntimeError: a rank sent no plan and its plan is not cached. Every rank sends its plan in
            the next save.
    """
    key = planner._cached_plans_key
    cached = SavePlanner._cached_all_plans.get(key, [])
    changed = [plan.usable for plan in all_plans]
    if cached and not any(changed) and len(cached) == len(all_plans):
        delta = [_unchanged(plan.storage_data) for plan in all_plans]
        return delta, SavePlanner._cached_global_plan[key], SavePlanner._cached_metadata[key]

    merged = _merge(cached, all_plans)
    made, metadata = planner._create_global_plan(merged)
    before = SavePlanner._cached_global_plan.get(key, []) if len(cached) == len(made) else []
    SavePlanner._cached_all_plans[key] = merged
    SavePlanner._cached_global_plan[key] = made
    SavePlanner._cached_metadata[key] = metadata
    if len(before) != len(made):
        return made, made, metadata
    # A rank that sent its plan may have no cached final plan.
    delta = [
        new if sent.usable or not same_plan(old, new) else _unchanged(new.storage_data)
        for sent, old, new in zip(all_plans, before, made, strict=True)
    ]
    return delta, made, metadata


def _merge(cached: list[SavePlan], all_plans: list[SavePlan]) -> list[SavePlan]:
    """Returns the plan of each rank, from the cache if the rank did not send it."""
    absent = [rank for rank, plan in enumerate(all_plans) if not plan.usable]
    if absent and len(cached) != len(all_plans):
        raise RuntimeError(
            f"ranks {absent[:8]} of {len(all_plans)} sent no plan because it has not changed, but "
            f"the coordinator has {len(cached)} cached plans. Another rank may have been the "
            f"coordinator of the last save. Save again: every rank will then send its plan."
        )
    merged = list(all_plans)
    for rank in absent:
        merged[rank] = dataclasses.replace(cached[rank], storage_data=all_plans[rank].storage_data)
    return merged
