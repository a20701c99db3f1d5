"""All planner steps of a save or a load, over a world simulated rank by rank."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

from parity.worlds import rank_of

MakeStateDict = Callable[[int], dict[str, Any]]


@dataclasses.dataclass
class Saved:
    """All plans of one save."""

    local_plans: list[SavePlan]
    global_plans: list[SavePlan]
    metadata: Metadata
    final_plans: list[SavePlan]


@dataclasses.dataclass
class Loaded:
    """All plans of one load."""

    local_plans: list[LoadPlan]
    global_plans: list[LoadPlan]
    final_plans: list[LoadPlan]


def sent(plans: list[Any], send: bool) -> list[Any]:
    """Returns the plans, or the received copies if they travel."""
    return [pickle.loads(pickle.dumps(plan)) for plan in plans] if send else plans


def save_plans(
    make_planner: Callable[[], Any],
    make_state_dict: MakeStateDict,
    world_size: int,
    *,
    send: bool = True,
) -> Saved:
    """Plans a save on every rank of a world; rank 0 is the coordinator."""
    planners, local_plans = [], []
    for rank in range(world_size):
        with rank_of(rank, world_size):
            planner = make_planner()
            planner.set_up_planner(make_state_dict(rank), StorageMeta(), rank == 0)
            local_plans.append(planner.create_local_plan())
            planners.append(planner)
    with rank_of(0, world_size):
        global_plans, metadata = planners[0].create_global_plan(sent(local_plans, send))
    received = sent(global_plans, send)
    final_plans = [
        planner.finish_plan(plan) for planner, plan in zip(planners, received, strict=True)
    ]
    return Saved(local_plans, global_plans, metadata, final_plans)


def load_plans(
    make_planner: Callable[[], Any],
    make_state_dict: MakeStateDict,
    metadata: Metadata,
    world_size: int,
    *,
    send: bool = True,
) -> Loaded:
    """Plans a load on every rank of a world; rank 0 is the coordinator."""
    planners, local_plans = [], []
    for rank in range(world_size):
        with rank_of(rank, world_size):
            planner = make_planner()
            planner.set_up_planner(make_state_dict(rank), metadata, rank == 0)
            local_plans.append(planner.create_local_plan())
            planners.append(planner)
    global_plans = planners[0].create_global_plan(sent(local_plans, send))
    received = sent(global_plans, send)
    final_plans = [
        planner.finish_plan(plan) for planner, plan in zip(planners, received, strict=True)
    ]
    return Loaded(local_plans, global_plans, final_plans)
