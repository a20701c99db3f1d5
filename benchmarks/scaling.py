"""Times of shardplan and upstream for growing inputs, for the plot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from shardplan import default_planner, planner_helpers
from shardplan.dcp.upstream import originals

from .agreement import expect, same
from .harness import Call, alternate, timed
from .validate_cases import PLANS
from .workloads import (
    LLAMA3_8B,
    fsdp,
    llama,
    saved_metadata,
    sharded,
    state_dict,
    with_adam,
    world,
)

Progress = Callable[[str], None]
Point = tuple[int, float]

# Upstream's curve ends before the point that would take longer than this.
UPSTREAM_SECONDS = 4.0
ROUNDS = 3


@dataclass
class Curve:
    """One panel: seconds over size, for both."""

    title: str
    axis: str
    ours: list[Point] = field(default_factory=list)
    upstream: list[Point] = field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """One size of a curve: the two functions and their input."""

    size: int
    functions: tuple[Callable[..., Any], Callable[..., Any]]
    arguments: tuple[Any, ...]

    @property
    def calls(self) -> tuple[Call, Call]:
        ours, upstream = self.functions
        return partial(ours, *self.arguments), partial(upstream, *self.arguments)


VALIDATE = (default_planner._validate_global_plan, originals.validate_global_plan)
READ = (
    planner_helpers.create_read_items_for_chunk_list,
    originals.create_read_items_for_chunk_list,
)
SAVE = (
    default_planner.create_default_local_save_plan,
    originals.create_default_local_save_plan,
)
LOAD = (
    default_planner.create_default_local_load_plan,
    originals.create_default_local_load_plan,
)


def curves(full: bool, progress: Progress) -> list[Curve]:
    """Returns every curve; upstream's ends after a few seconds, and each point is checked."""
    last = 20 if full else 17
    sizes = [1 << power for power in range(6, last + 1)]
    ranks = [1 << power for power in range(3, 14 if full else 11)]
    layers = [1 << power for power in range(10 if full else 8)]
    return [
        _measure(Curve("validate, sharded on a small dim", "chunks"), _validate(sizes), progress),
        _measure(Curve("read items made, small dim", "saved chunks"), _reads(sizes), progress),
        _measure(Curve("local save plan, Llama-3 + Adam", "entries"), _saves(layers), progress),
        _measure(
            Curve("local load plan, Llama-3-8B + Adam", "saved ranks"), _loads(ranks), progress
        ),
    ]


def _measure(curve: Curve, steps: Iterator[Step], progress: Progress) -> Curve:
    upstream_ends = False
    for step in steps:
        ours, upstream = step.calls
        if upstream_ends:
            (our_time,) = alternate((ours,), ROUNDS)
        else:
            seconds, result = timed(upstream)
            expect(same(ours(), result), f"{curve.title} at {step.size}")
            del result
            our_time, upstream_time = alternate(
                (ours, upstream), ROUNDS, budgets=(math.inf, 0.5), before=((), (seconds,))
            )
            curve.upstream.append((step.size, upstream_time.seconds))
            # Twice the size takes up to four times as long.
            upstream_ends = 4 * upstream_time.seconds > UPSTREAM_SECONDS
        curve.ours.append((step.size, our_time.seconds))
        progress(f"{curve.title}: {step.size:,} {curve.axis}")
    return curve


def _validate(sizes: list[int]) -> Iterator[Step]:
    for size in sizes:
        metadata = sharded((2 * size, 8 * size), 0, size).metadata()
        yield Step(size, VALIDATE, (PLANS, metadata))


def _reads(sizes: list[int]) -> Iterator[Step]:
    for size in sizes:
        saved = sharded((3 * size, 8 * size), 0, size).saved()
        wanted = sharded((3 * size, 8 * size), 0, size // 2).chunks()
        yield Step(size, READ, ("model.weight", saved, wanted))


def _saves(layers: list[int]) -> Iterator[Step]:
    with world(3, 64):
        for count in layers:
            config = dataclasses.replace(LLAMA3_8B, layers=count)
            entries = state_dict(with_adam(llama(config)), fsdp(64))
            yield Step(len(entries), SAVE, (entries, False))


def _loads(ranks: list[int]) -> Iterator[Step]:
    parameters = with_adam(llama(LLAMA3_8B))
    with world(3, 64):
        entries = state_dict(parameters, fsdp(64))
        for count in ranks:
            yield Step(count, LOAD, (entries, saved_metadata(parameters, fsdp(count))))
