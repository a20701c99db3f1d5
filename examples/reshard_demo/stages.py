"""Times the stages of a save and of a load, of any planner and storage."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Timed = TypeVar("Timed")

#: Seconds of each stage, every time that it ran.
Times = dict[str, list[float]]

PLANNER_STAGES = ("set_up_planner", "create_local_plan", "create_global_plan", "finish_plan")
#: ``finish`` writes ``.metadata`` on one rank.
WRITER_STAGES = ("write_data", "finish")
READER_STAGES = ("read_metadata", "read_data")
#: In the order in which a save or a load runs them.
STAGES = (
    "read_metadata",
    *PLANNER_STAGES,
    "write_data",
    "finish",
    "read_data",
    "whole dcp.save",
    "whole dcp.load",
)


def timed(subject: Timed, stages: tuple[str, ...], times: Times) -> Timed:
    """Makes this planner, writer or reader note in ``times`` how long its stages take."""
    for stage in stages:
        setattr(subject, stage, _noting(stage, getattr(subject, stage), times))
    return subject


@contextmanager
def timing(stage: str, times: Times) -> Iterator[None]:
    """Notes in ``times`` how long a block takes."""
    start = time.perf_counter()
    yield
    times.setdefault(stage, []).append(time.perf_counter() - start)


def _noting(stage: str, method: Callable[..., Any], times: Times) -> Callable[..., Any]:
    # DCP inspects the signature of set_up_planner, which `wraps` keeps.
    @functools.wraps(method)
    def note(*args: Any, **kwargs: Any) -> Any:
        with timing(stage, times):
            result = method(*args, **kwargs)
            if stage in ("write_data", "read_data"):
                result.wait()
        return result

    return note
