"""What the coordinator does between the local plans and the final ones.

``create_global_plan`` and ``finish_plan`` are methods of our ``DefaultSavePlanner``; ``register()``
makes them upstream's planner's. They reach everything else through upstream's module, where callers
replace it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch.distributed.checkpoint.default_planner as upstream_module
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

from ..lazy import path_mappings
from ..native import native
from ..reports import load_errors, save_errors
from ..twins import default_planner
from ..twins.table import answers
from ..upstream import originals
from . import plan_log


def current(name: str) -> Any:
    """The function of this name that a caller put into upstream's module, else ours."""
    found = getattr(upstream_module, name)
    original = getattr(originals, name.removeprefix("_"))
    return getattr(default_planner, name) if found is original else found


_NEEDS_NO_CHUNKS = "_shardplan_needs_no_chunks"


def mark(storage_meta: StorageMeta | None) -> StorageMeta | None:
    """Says, to the planner that a writer's ``storage_meta()`` is given to, that this writer's
    ``finish`` takes chunk lists that are not filled."""
    if storage_meta is not None:
        vars(storage_meta)[_NEEDS_NO_CHUNKS] = True
    return storage_meta


def unmarked(storage_meta: StorageMeta | None) -> StorageMeta | None:
    """The same for a file, which has upstream's attributes only."""
    if storage_meta is not None:
        vars(storage_meta).pop(_NEEDS_NO_CHUNKS, None)
    return storage_meta


@answers(originals.planner_set_up_planner)
@functools.wraps(originals.planner_set_up_planner)
def set_up_planner(
    planner: Any,
    state_dict: dict[str, Any],
    storage_meta: StorageMeta | None = None,
    is_coordinator: bool = False,
) -> None:
    """Answers to ``DefaultSavePlanner.set_up_planner``; sees what the writer needs."""
    planner._needs_chunks = not getattr(storage_meta, _NEEDS_NO_CHUNKS, False)
    originals.planner_set_up_planner(planner, state_dict, storage_meta, is_coordinator)


@answers(originals.planner_create_global_plan)
@functools.wraps(originals.planner_create_global_plan)
def create_global_plan(planner: Any, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
    """Answers to ``DefaultSavePlanner._create_global_plan``."""
    global_plan: list[SavePlan]
    metadata: Metadata
    stages = plan_log.Stages(getattr(planner, "_local_plan_seconds", None))
    deduped = planner._dedup_save_plans(all_plans)
    stages.done("dedup")
    global_plan, metadata = current("create_default_global_save_plan")(deduped)
    if planner.flatten_state_dict:
        mappings = path_mappings.merge(plan.planner_data for plan in global_plan)
        metadata = dataclasses.replace(metadata, planner_data=mappings)
    stages.done("global plan")
    _validate(all_plans, global_plan, metadata)
    stages.done("validation")
    plan_log.saved(global_plan, stages)
    planner._unfilled_metadata = metadata
    return global_plan, metadata


def _validate(all_plans: list[SavePlan], global_plan: list[SavePlan], metadata: Metadata) -> None:
    validate = current("_validate_global_plan")
    if validate is default_planner._validate_global_plan:
        save_errors.raise_if_invalid(all_plans, global_plan, metadata)
    else:
        save_errors.raise_verdict(validate(global_plan, metadata))


@answers(originals.planner_finish_plan)
@functools.wraps(originals.planner_finish_plan)
def finish_plan(planner: Any, new_plan: SavePlan) -> SavePlan:
    """Answers to ``DefaultSavePlanner.finish_plan``.

    The plans are on their way: on the coordinator, the chunk lists of Metadata become exact lists,
    unless the writer is one of ours.
    """
    metadata = vars(planner).pop("_unfilled_metadata", None)
    if not vars(planner).get("_needs_chunks", True):
        metadata = None
    if metadata is not None and isinstance(metadata.state_dict_metadata, dict):
        native.fill_chunks(metadata.state_dict_metadata)
    return originals.planner_finish_plan(planner, new_plan)


@answers(originals.planner_create_local_load_plan)
@functools.wraps(originals.planner_create_local_load_plan)
def create_local_load_plan(planner: Any) -> LoadPlan:
    """Answers to ``DefaultLoadPlanner.create_local_plan``; an error says all that does not fit."""
    with load_errors.explained(planner):
        plan: LoadPlan = originals.planner_create_local_load_plan(planner)
    return plan
