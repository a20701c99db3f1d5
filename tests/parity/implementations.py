"""The implementations under test: upstream, shardplan, and upstream's names after register()."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from torch.distributed.checkpoint import (
    _dedup_tensors,
    default_planner,
    planner_helpers,
    resharding,
)

import shardplan.dedup_tensors
import shardplan.default_planner
import shardplan.planner_helpers
import shardplan.resharding

NAMES = ("upstream", "ours", "registered")


@dataclasses.dataclass(frozen=True)
class Implementation:
    """One implementation, given by its modules."""

    name: str
    planner_helpers: ModuleType
    default_planner: ModuleType
    resharding: ModuleType
    dedup_tensors: Callable[..., Any]

    @property
    def DefaultSavePlanner(self) -> Any:
        return self.default_planner.DefaultSavePlanner

    @property
    def DefaultLoadPlanner(self) -> Any:
        return self.default_planner.DefaultLoadPlanner

    def __str__(self) -> str:
        return self.name


UPSTREAM = Implementation(
    "upstream", planner_helpers, default_planner, resharding, _dedup_tensors.dedup_tensors
)
OURS = Implementation(
    "ours",
    shardplan.planner_helpers,
    shardplan.default_planner,
    shardplan.resharding,
    shardplan.dedup_tensors.dedup_tensors,
)


@contextlib.contextmanager
def chosen(name: str) -> Iterator[Implementation]:
    """Yields the implementation with this name."""
    if name == "registered":
        with shardplan.registered():
            yield dataclasses.replace(UPSTREAM, name=name)
    else:
        yield {"upstream": UPSTREAM, "ours": OURS}[name]
