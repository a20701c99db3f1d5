"""The plan caches of upstream's ``SavePlanner``, which last as long as the process."""

from __future__ import annotations

from torch.distributed.checkpoint.planner import SavePlanner

CACHES = [name for name in vars(SavePlanner) if name.startswith("_cached_")]


def clear_plan_caches() -> None:
    """Clears them for all planners of this process."""
    for name in CACHES:
        getattr(SavePlanner, name).clear()
