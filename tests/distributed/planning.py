"""The planners of a job: upstream, shardplan, register(), or different ones by rank."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint import DefaultLoadPlanner, DefaultSavePlanner

import shardplan

OURS = ("ours", "registered", "ours on even ranks", "ours on odd ranks")
ALL = ("upstream", *OURS)


@dataclasses.dataclass(frozen=True)
class Planners:
    """The planners that this rank passes to dcp.save and dcp.load."""

    save: type[DefaultSavePlanner] = DefaultSavePlanner
    load: type[DefaultLoadPlanner] = DefaultLoadPlanner


@contextlib.contextmanager
def planning(who: str) -> Iterator[Planners]:
    upstream = Planners()
    ours = Planners(shardplan.DefaultSavePlanner, shardplan.DefaultLoadPlanner)
    if who == "registered":
        with shardplan.registered():
            yield upstream
    elif who.startswith("ours on"):
        rank = dist.get_rank()
        yield ours if rank % 2 == ("odd" in who) else upstream
    else:
        yield {"upstream": upstream, "ours": ours}[who]


def described(error: BaseException) -> Any:
    """Describes an exception by types and messages.

    Tracebacks are left out. Of a message with a report, only the first line, which is upstream's,
    is kept.
    """
    failures = getattr(error, "failures", {})

    def message(inner: BaseException) -> str:
        return str(inner).split("\n", 1)[0] if hasattr(inner, "report") else str(inner)

    return (
        type(error).__qualname__,
        error.args[0] if failures else str(error),
        {rank: (type(inner).__qualname__, message(inner)) for rank, (inner, _) in failures.items()},
    )
