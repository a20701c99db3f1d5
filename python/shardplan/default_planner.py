"""Native versions of the names in ``torch.distributed.checkpoint.default_planner``."""

from __future__ import annotations

from .dcp.planners.load import DefaultLoadPlanner, _EmptyStateDictLoadPlanner
from .dcp.planners.save import DefaultSavePlanner
from .dcp.twins.default_planner import (
    _check_box_bounds,
    _check_box_overlap,
    _validate_global_plan,
    create_default_global_save_plan,
    create_default_local_load_plan,
    create_default_local_save_plan,
    dedup_save_plans,
)
from .dcp.upstream.originals import create_default_global_load_plan
from .dcp.upstream.originals import create_default_local_metadata as _create_default_local_metadata

__all__ = [
    "DefaultLoadPlanner",
    "DefaultSavePlanner",
    "create_default_global_load_plan",
    "create_default_global_save_plan",
    "create_default_local_load_plan",
    "create_default_local_save_plan",
]
