"""Plan caching (``enable_plan_caching=True``) in the class dicts of upstream's ``SavePlanner``.

Upstream's meaning, without its mistakes: plans are compared in everything that they say, nothing is
cached of a global plan that failed, a rank trusts its cache only after a save that it saw
finished, and ``storage_data`` is always that of this save.
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

# Keys of saves that this rank began and has not seen finished: its cached plan may not be the one
# that the coordinator has.
_unfinished: set[str] = set()


def _unchanged(storage_data: Any) -> SavePlan:
    """Stands for a plan that the other side has."""
    return SavePlan([], storage_data=storage_data, usable=False)


def same_plan(plan: SavePlan, other: SavePlan) -> bool:
    """Whether two plans say the same: items with every property, mappings in their order."""
    if plan.usable != other.usable or plan.planner_data != other.planner_data:
        return False
    if isinstance(plan.planner_data, dict) and list(plan.planner_data) != list(other.planner_data):
        return False
    same = native.same_items(plan.items, other.items, True)
    if same is None:
        fallbacks.whole("comparison with a cached plan: an item cannot be read")
        return originals.compare_save_plans(plan, other) and plan.items == other.items
    return same


def local_plan(planner: Any, plan: SavePlan) -> SavePlan:
    """What a rank sends: its plan, or that it has not changed."""
    # Of a save that failed, and would be cached once this one has finished.
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
    """The plan by which a rank writes.

    Answers to ``DefaultSavePlanner._finish_plan_with_caching``.
    """
    key = planner._cached_plans_key
    if new_plan.usable:
        final = SavePlanner._cached_final_save_plan[key] = new_plan
    else:
        cached = SavePlanner._cached_final_save_plan[key]
        final = dataclasses.replace(cached, storage_data=new_plan.storage_data)
    _unfinished.discard(key)
    # Here, and not in upstream's finish_plan, which does so in later versions of torch than 2.11.
    if (pending := vars(planner).pop("_pending_local_plan", None)) is not None:
        SavePlanner._cached_save_plan[key] = pending
    return final


def global_plan(
    planner: Any, all_plans: list[SavePlan]
) -> tuple[list[SavePlan], list[SavePlan], Metadata]:
    """What to scatter, the global plan, and its metadata.

    Answers to ``DefaultSavePlanner._create_global_plan_with_caching``. RuntimeError where a rank
    sent no plan and none of it is cached; the next save then sends them all.
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
    # A rank that sent its plan may have none to go by.
    delta = [
        new if sent.usable or not same_plan(old, new) else _unchanged(new.storage_data)
        for sent, old, new in zip(all_plans, before, made, strict=True)
    ]
    return delta, made, metadata


def _merge(cached: list[SavePlan], all_plans: list[SavePlan]) -> list[SavePlan]:
    """Each rank's plan: the one it sent, or the one that is cached."""
    absent = [rank for rank, plan in enumerate(all_plans) if not plan.usable]
    if absent and len(cached) != len(all_plans):
        raise RuntimeError(
            f"ranks {absent[:8]} of {len(all_plans)} sent no plan, as theirs has not changed, but "
            f"the coordinator has {len(cached)} cached plans: was another rank the coordinator of "
            f"the last save? Save again: every rank will send its plan."
        )
    merged = list(all_plans)
    for rank in absent:
        merged[rank] = dataclasses.replace(cached[rank], storage_data=all_plans[rank].storage_data)
    return merged
