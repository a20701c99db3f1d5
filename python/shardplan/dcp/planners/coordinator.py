"""The coordinator's work, from the local plans to the final plans.

``create_global_plan`` and ``finish_plan`` implement methods of shardplan's ``DefaultSavePlanner``,
and ``register()`` installs them in upstream's planner. They look up other functions in upstream's
module, where callers may have replaced them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch.distributed.checkpoint.default_planner as upstream_module
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

from ..lazy import path_mappings
from ..native import native
from ..reports import load_errors, save_errors
from ..twins import default_planner, state_dicts
from ..twins.table import twin_of
from ..upstream import originals
from . import plan_log


def current(twin: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a twin; or what a caller has put in its original's place in upstream's module."""
    found: Callable[..., Any] = getattr(upstream_module, twin.__name__)
    original = getattr(originals, twin.__name__.removeprefix("_"))
    return twin if found is original else found


_ACCEPTS_LAZY_CHUNKS = "_shardplan_accepts_lazy_chunks"


def set_accepts_lazy_chunks(storage_meta: StorageMeta | None) -> StorageMeta | None:
    """Sets a flag that tells the planner that the writer's ``finish`` accepts lazy chunk lists.

    Args:
        storage_meta: what the writer's ``storage_meta()`` returned.
    """
    if storage_meta is not None:
        vars(storage_meta)[_ACCEPTS_LAZY_CHUNKS] = True
    return storage_meta


def clear_accepts_lazy_chunks(storage_meta: StorageMeta | None) -> StorageMeta | None:
    """Removes the flag, so that a file holds only upstream's attributes."""
    if storage_meta is not None:
        vars(storage_meta).pop(_ACCEPTS_LAZY_CHUNKS, None)
    return storage_meta


# The default of a ``storage_meta``, for which None has a meaning.
NOT_GIVEN: Any = object()


@twin_of(originals.planner_set_up_planner)
@functools.wraps(originals.planner_set_up_planner)
def set_up_planner(
    planner: Any,
    state_dict: dict[str, Any],
    storage_meta: StorageMeta | None = NOT_GIVEN,
    is_coordinator: bool = False,
) -> None:
    """Twin of ``DefaultSavePlanner.set_up_planner``. Reads whether the writer needs exact lists.

    ``save`` passes the ``storage_meta`` of its writer, which is None for most classes of callers. A
    caller that passes nothing, like Megatron, has its own save; its chunk lists stay lazy, as its
    items do.
    """
    accepts_lazy = storage_meta is NOT_GIVEN or hasattr(storage_meta, _ACCEPTS_LAZY_CHUNKS)
    planner._needs_exact_chunks = not accepts_lazy
    if planner.flatten_state_dict:
        state_dict, planner.mappings = current(state_dicts.flatten_state_dict)(state_dict)
    if planner.flatten_sharded_tensors:
        state_dict = current(state_dicts._flatten_sharded_tensors)(state_dict)
    planner.state_dict = state_dict
    planner.is_coordinator = is_coordinator


@twin_of(originals.planner_create_global_plan)
@functools.wraps(originals.planner_create_global_plan)
def create_global_plan(planner: Any, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
    """Twin of ``DefaultSavePlanner._create_global_plan``.

    Args:
        planner: the save planner of the coordinator.
        all_plans: the local plan of each rank.

    Returns:
        The final plan of each rank, and the metadata without storage_data.

    Raises:
        ValueError: the global plan is not valid.
    """
    global_plan: list[SavePlan]
    metadata: Metadata
    stages = plan_log.Stages(getattr(planner, "_local_plan_seconds", None))
    deduped = planner._dedup_save_plans(all_plans)
    stages.done("dedup")
    global_plan, metadata = current(default_planner.create_default_global_save_plan)(deduped)
    if planner.flatten_state_dict:
        mappings = path_mappings.merge(plan.planner_data for plan in global_plan)
        metadata = dataclasses.replace(metadata, planner_data=mappings)
    stages.done("global plan")
    _validate(all_plans, global_plan, metadata)
    stages.done("validation")
    plan_log.saved(global_plan, stages)
    planner._lazy_metadata = metadata
    return global_plan, metadata


def _validate(all_plans: list[SavePlan], global_plan: list[SavePlan], metadata: Metadata) -> None:
    validate = current(default_planner._validate_global_plan)
    if validate is default_planner._validate_global_plan:
        save_errors.raise_if_invalid(all_plans, global_plan, metadata)
    else:
        save_errors.raise_verdict(validate(global_plan, metadata))


@twin_of(originals.planner_finish_plan)
@functools.wraps(originals.planner_finish_plan)
def finish_plan(planner: Any, new_plan: SavePlan) -> SavePlan:
    """Twin of ``DefaultSavePlanner.finish_plan``.

    On the coordinator, materializes the chunk lists of the metadata as plain lists, unless the
    writer accepts lazy ones. The plans have been scattered by then.
    """
    metadata = vars(planner).pop("_lazy_metadata", None)
    if not vars(planner).get("_needs_exact_chunks", True):
        metadata = None
    if metadata is not None and isinstance(metadata.state_dict_metadata, dict):
        native.fill_chunks(metadata.state_dict_metadata)
    return originals.planner_finish_plan(planner, new_plan)


@twin_of(originals.planner_create_local_load_plan)
@functools.wraps(originals.planner_create_local_load_plan)
def create_local_load_plan(planner: Any) -> LoadPlan:
    """Twin of ``DefaultLoadPlanner.create_local_plan``. An error lists all mismatches."""
    with load_errors.add_mismatches(planner):
        plan: LoadPlan = originals.planner_create_local_load_plan(planner)
    return plan
