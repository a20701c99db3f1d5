"""Rows of ``enable_plan_caching`` where no rank's plan has changed since the last save."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner

from shardplan import default_planner
from shardplan.dcp.planners import plan_cache
from shardplan.dcp.upstream import originals

from . import coordination
from .agreement import expect
from .harness import Call, Growth, Row, Speedup, alternate, race
from .measures import Bound
from .workloads import (
    LLAMA3_405B,
    LlamaConfig,
    Parameter,
    every_rank,
    fsdp,
    llama,
    state_dict,
    with_adam,
    world,
)

RANKS = 1_024
CACHES = tuple(name for name in vars(SavePlanner) if name.startswith("_cached_"))
PLANNERS = (default_planner.DefaultSavePlanner, originals.DefaultSavePlanner)
FEWER_LAYERS = 8

Global = tuple[list[SavePlan], Metadata]


@contextmanager
def empty_caches() -> Iterator[None]:
    """Empties the caches before and after the block."""
    _forget()
    try:
        yield
    finally:
        _forget()


def _forget() -> None:
    for name in CACHES:
        getattr(SavePlanner, name).clear()
    plan_cache._unfinished.clear()


def caching(full: bool) -> Iterator[Row]:
    """A rank of 1,024, then a coordinator of fewer ranks: Llama 3 405B with Adam."""
    parameters = with_adam(llama(LLAMA3_405B))
    with world(RANKS // 2, RANKS), empty_caches():
        yield from _rank(state_dict(parameters, fsdp(RANKS)))
    with empty_caches():
        yield from _coordinator(LLAMA3_405B, 32 if full else 8)


def _rank(entries: dict[str, Any]) -> Iterator[Row]:
    what = f"unchanged plan, Llama-3-405B + Adam ({len(entries):,} entries), 1 of 1,024 ranks"
    ours, upstream = (unchanged_on_rank(planner, entries) for planner in PLANNERS)
    with_caching, of_upstream = race(ours, upstream)
    yield Speedup(
        what,
        "create_local_plan and finish_plan, plan caching on; items stay lazy",
        with_caching,
        of_upstream,
        target=8,
    )

    def plain() -> SavePlan:
        return default_planner.create_default_local_save_plan(entries, False)

    less, more = alternate((plain, ours))
    yield Growth(f"{what}, against a save without caching", "the same", less, more, target=2)


def unchanged_on_rank(planner: type[originals.DefaultSavePlanner], entries: dict[str, Any]) -> Call:
    """Saves once. The call is the rank's part of planning the next save, which is unchanged.

    It returns the sent plan and the final plan.
    """
    first = _planner(planner)
    first.set_up_planner(entries, is_coordinator=False)
    made = first.create_local_plan()
    expect(made.usable, "a first plan was treated as unchanged")
    # Like the plan that comes back, it has its own items; those of the sent plan stay lazy.
    send = coordination.our_bytes if planner is PLANNERS[0] else coordination.upstream_bytes
    first.finish_plan(pickle.loads(send(made)))

    def plan_again() -> tuple[SavePlan, SavePlan]:
        sent = again.create_local_plan()
        expect(not sent.usable, "an unchanged plan was treated as changed")
        return sent, again.finish_plan(SavePlan([], usable=False))

    again = _planner(planner)
    again.set_up_planner(entries, is_coordinator=False)
    return plan_again


def _coordinator(config: LlamaConfig, ranks: int) -> Iterator[Row]:
    smaller = dataclasses.replace(config, layers=config.layers // FEWER_LAYERS)
    parameters = with_adam(llama(config))
    fewer = with_adam(llama(smaller))
    what = f"coordinator, every plan unchanged, {ranks:,} ranks, {len(parameters):,} entries"
    counted = "create_global_plan, plan caching on"

    mine, theirs = (unchanged_on_coordinator(one, parameters, ranks) for one in PLANNERS)
    ours, upstream = race(mine, theirs, loops=(100, 100))
    yield Speedup(what, counted, ours, upstream, target=None)

    of_fewer = unchanged_on_coordinator(PLANNERS[0], fewer, ranks)
    less, more = alternate((of_fewer, mine), loops=(100, 100))
    work = f"coordinator, every plan unchanged, {len(fewer):,} -> {len(parameters):,} entries"
    yield Growth(f"{work}, {ranks:,} ranks", counted, less, more, target=2)

    _forget()
    mine = unchanged_on_coordinator(PLANNERS[0], fewer, ranks)
    of_more_ranks = unchanged_on_coordinator(PLANNERS[0], fewer, 8 * ranks)
    less, more = alternate((mine, of_more_ranks), loops=(100, 100))
    work = f"coordinator, every plan unchanged, {ranks:,} -> {8 * ranks:,} ranks"
    yield Growth(f"{work}, {len(fewer):,} entries", counted, less, more, target=12)
    yield Bound(
        f"coordinator, every plan unchanged, {8 * ranks:,} ranks",
        counted,
        more.seconds / (8 * ranks) * 1e6,
        None,
        "us a rank",
        10,
    )


def unchanged_on_coordinator(
    planner: type[originals.DefaultSavePlanner], parameters: Mapping[str, Parameter], ranks: int
) -> Call:
    """Plans once for all ranks. The call plans again, after each rank has sent no change.

    It returns the plans sent to the ranks, and the metadata.
    """
    made = every_rank(parameters, fsdp(ranks))
    first = _planner(planner)
    # Each size has its own cache key, so that calls of two sizes can alternate.
    first._cached_plans_key += f", {len(parameters)} entries, {ranks} ranks"
    if planner is PLANNERS[0]:
        received = [pickle.loads(coordination.our_bytes(plan)) for plan in made]
    else:
        received = list(made)
    first.create_global_plan(received)
    unchanged = [SavePlan([], usable=False) for _ in range(ranks)]

    def plan_again() -> Global:
        again = _planner(planner)
        again._cached_plans_key = first._cached_plans_key
        return again.create_global_plan(unchanged)

    sent, _ = plan_again()
    expect(not any(plan.usable for plan in sent), "an unchanged plan is sent again")
    return plan_again


def _planner(planner: type[originals.DefaultSavePlanner]) -> originals.DefaultSavePlanner:
    return planner(flatten_state_dict=True, enable_plan_caching=True)
