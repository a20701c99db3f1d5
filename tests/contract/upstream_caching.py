"""When the installed torch caches the plans of a save (``enable_plan_caching``)."""

from __future__ import annotations

import functools

import torch
from torch.distributed.checkpoint.planner import SavePlanner

from shardplan.dcp.upstream import originals


@functools.cache
def caches_unfinished_plans() -> bool:
    """Returns whether upstream's planner caches its local plan before the save is finished.

    torch 2.11 caches it when it is created, so that the next save compares its plan with that of a
    failed save. Later releases cache it when the final plan is received, and a failed save leaves
    the plan of the save before it.
    """
    planner = originals.DefaultSavePlanner(enable_plan_caching=True)
    planner._cached_plans_key = "a key of this function"
    planner.set_up_planner({"w": torch.zeros(1)}, None, True)
    planner.create_local_plan()
    return SavePlanner._cached_save_plan.pop(planner._cached_plans_key, None) is not None
