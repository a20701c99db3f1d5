"""Who plans: upstream, ours, upstream's names while ours are registered, or some ranks each."""

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
    """An exception as types and words, without the lines it came from, and without what ours says
    after upstream's words, which are the first line."""
    failures = getattr(error, "failures", {})

    def words(inner: BaseException) -> str:
        return str(inner).split("\n", 1)[0] if hasattr(inner, "report") else str(inner)

    return (
        type(error).__qualname__,
        error.args[0] if failures else str(error),
        {rank: (type(inner).__qualname__, words(inner)) for rank, (inner, _) in failures.items()},
    )
