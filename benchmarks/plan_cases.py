"""Rows of the local plans of one rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

from shardplan import default_planner
from shardplan.dcp.upstream import originals

from .harness import Row, Speedup, race_all
from .measures import Bound
from .workloads import (
    DEEPSEEK_V3,
    LLAMA3_405B,
    fsdp,
    fsdp_tp,
    llama,
    moe,
    saved_metadata,
    state_dict,
    with_adam,
    world,
)

RANKS = 1_024
LAZY = "plan returned, items stay lazy"
MATERIALIZED = "every item materialized"


def materialize(plan: SavePlan | LoadPlan) -> SavePlan | LoadPlan:
    """Materializes the items of a plan."""
    for _ in plan.items:
        break
    return plan


def local_save_plans(full: bool) -> Iterator[Row]:
    """One rank of 1,024 saves Llama 3 405B with Adam; at full size also other models."""
    parameters = with_adam(llama(LLAMA3_405B))
    what = f"local save plan, Llama-3-405B + Adam ({len(parameters):,} entries), 1 of 1,024 ranks"
    with world(RANKS // 2, RANKS):
        yield from _save_rows(state_dict(parameters, fsdp(RANKS)), what, target=16)
        if not full:
            return
        yield from _save_rows(state_dict(parameters, fsdp_tp(128, 8)), f"{what}, FSDP x TP")
        experts = with_adam(moe(DEEPSEEK_V3))
        what = f"local save plan, MoE + Adam ({len(experts):,} entries), 1 of 1,024 ranks"
        yield from _save_rows(state_dict(experts, fsdp(RANKS)), what)


def _save_rows(entries: dict[str, Any], work: str, target: float | None = None) -> Iterator[Row]:
    def ours() -> SavePlan:
        return default_planner.create_default_local_save_plan(entries, False)

    def upstream() -> SavePlan:
        return originals.create_default_local_save_plan(entries, False)

    lazy, materialized, of_upstream = race_all((ours, lambda: materialize(ours())), upstream)
    yield Speedup(work, LAZY, lazy, of_upstream, target)
    yield Speedup(work, MATERIALIZED, materialized, of_upstream, None)
    if target is not None:
        made = materialized.seconds - lazy.seconds
        yield Bound(
            "items of the same plan, materialized",
            "the difference of the two above",
            1e6 * made / len(entries),
            None,
            "us an item",
            2,
        )


def local_load_plans(full: bool) -> Iterator[Row]:
    """The same rank loads from upstream metadata; 3,492,864 chunks at full size."""
    ranks = RANKS if full else RANKS // 4
    parameters = with_adam(llama(LLAMA3_405B))
    metadata = saved_metadata(parameters, fsdp(ranks))
    what = (
        f"local load plan, Llama-3-405B + Adam, 1 of 1,024 ranks, "
        f"{len(parameters) * ranks:,} chunks saved by {ranks:,}"
    )
    with world(RANKS // 2, RANKS):
        entries = state_dict(parameters, fsdp(RANKS))

        def ours() -> LoadPlan:
            return default_planner.create_default_local_load_plan(entries, metadata)

        def upstream() -> LoadPlan:
            return originals.create_default_local_load_plan(entries, metadata)

        lazy, materialized, of_upstream = race_all(
            (ours, lambda: materialize(ours())), upstream, upstream_seconds=12 if full else 4
        )
        yield Speedup(what, LAZY, lazy, of_upstream, target=10)
        yield Speedup(what, MATERIALIZED, materialized, of_upstream, target=None)
