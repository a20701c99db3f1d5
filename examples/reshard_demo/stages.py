"""Times the stages of planning, of any planner."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar

Planner = TypeVar("Planner")

#: Seconds of each stage, every time that it ran.
Times = dict[str, list[float]]

ITEMS = "create_local_plan, items made"
STAGES = ("set_up_planner", "create_local_plan", ITEMS, "create_global_plan", "finish_plan")


def timed(planner: Planner, times: Times) -> Planner:
    """Makes this planner note in ``times`` how long its stages take."""
    for stage in STAGES:
        if stage != ITEMS:
            setattr(planner, stage, _noting(stage, getattr(planner, stage), times))
    return planner


def _noting(stage: str, method: Callable[..., Any], times: Times) -> Callable[..., Any]:
    # DCP inspects the signature of set_up_planner, which `wraps` keeps.
    @functools.wraps(method)
    def note(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = method(*args, **kwargs)
        times.setdefault(stage, []).append(time.perf_counter() - start)
        if stage == "create_local_plan":
            # Our plans make their items when asked; upstream's hold them. Ask both.
            list(result.items)
            times.setdefault(ITEMS, []).append(time.perf_counter() - start)
        return result

    return note
