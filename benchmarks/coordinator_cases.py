"""Rows of the coordinator: bytes in to bytes out."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterable, Iterator

from torch.distributed.checkpoint.planner import SavePlan

from . import coordination
from .harness import Growth, Row, Speedup, Timing, alternate, timed
from .measures import Bound, Scaled, peak_memory
from .workloads import (
    DEEPSEEK_V3,
    LLAMA3_70B,
    LLAMA3_405B,
    every_rank,
    every_rank_of_moe,
    fsdp,
    hsdp,
    llama,
    with_adam,
)

RANKS = 1_024
LAZY = "bytes in to bytes out, chunks stay lazy"
MATERIALIZED = "the same, every chunk materialized, and the garbage collection that follows"
ROUNDS = 5


def coordinator(full: bool) -> Iterator[Row]:
    """405B under FSDP, 70B under HSDP, a mixture of experts; 1,024 ranks at full size."""
    yield from _fsdp(full)
    replicas, shards = (32, 8) if full else (8, 8)
    plans = every_rank(with_adam(llama(LLAMA3_70B)), hsdp(replicas, shards))
    yield from _race(plans, f"Llama-3-70B + Adam, HSDP {replicas} x {shards}", 200)
    config = DEEPSEEK_V3 if full else dataclasses.replace(DEEPSEEK_V3, layers=5)
    plans = every_rank_of_moe(config, 8, 8)
    yield from _race(plans, f"MoE of {config.layers} layers + Adam, 8 x 8 ranks", 200)


def _fsdp(full: bool) -> Iterator[Row]:
    parameters = with_adam(llama(LLAMA3_405B))
    ranks = RANKS // 8 if full else RANKS // 32
    what = "Llama-3-405B + Adam"
    ours_bytes, upstream_bytes, items = _send(every_rank(parameters, fsdp(ranks)))
    yield Bound(
        f"a plan on the wire, {what}, one of {ranks:,}",
        "with mappings and envelope",
        len(ours_bytes[0]) / len(parameters),
        len(upstream_bytes[0]) / len(parameters),
        "bytes an item",
        25,
    )
    lazy, materialized, upstream = _timed_pair(ours_bytes, upstream_bytes)
    work = f"coordinator, {what}, {ranks:,} ranks, {items:,} items"
    yield Speedup(work, LAZY, lazy, upstream, 300)
    yield Speedup(work, MATERIALIZED, materialized, upstream, 150)
    if not full:
        return
    del ours_bytes, upstream_bytes
    everyone = [coordination.our_bytes(plan) for plan in every_rank(parameters, fsdp(RANKS))]
    whole, whole_materialized = _timed_ours(everyone)
    work = f"coordinator, {what}, {RANKS:,} ranks, {RANKS * len(parameters):,} items"
    yield Scaled(work, LAZY, whole, upstream, ranks / RANKS, 300)
    yield Scaled(work, MATERIALIZED, whole_materialized, upstream, ranks / RANKS, 150)
    yield Growth(f"{work}, against {ranks:,} ranks", LAZY, lazy, whole, 1.5 * RANKS / ranks)
    yield Bound(
        f"peak memory of the same, {RANKS:,} ranks",
        "above the interpreter's with torch; every chunk materialized",
        peak_memory(_coordinate, everyone) / 1e9,
        None,
        "GB",
        2,
    )


def _race(plans: Iterable[SavePlan], what: str, target: float) -> Iterator[Row]:
    ours_bytes, upstream_bytes, items = _send(plans)
    lazy, materialized, upstream = _timed_pair(ours_bytes, upstream_bytes)
    work = f"coordinator, {what}, {len(ours_bytes):,} ranks, {items:,} items"
    yield Speedup(work, LAZY, lazy, upstream, target)
    yield Speedup(work, MATERIALIZED, materialized, upstream, None)


def _send(plans: Iterable[SavePlan]) -> tuple[list[bytes], list[bytes], int]:
    """Encodes every plan as shardplan and as upstream. Returns both, and the number of items."""
    ours, of_upstream, items = [], [], 0
    for plan in plans:
        ours.append(coordination.our_bytes(plan))
        of_upstream.append(coordination.upstream_bytes(plan))
        items += len(plan.items)
    return ours, of_upstream, items


def _timed_pair(ours: list[bytes], of_upstream: list[bytes]) -> tuple[Timing, Timing, Timing]:
    """Times shardplan without and with chunks, and upstream in the call that checks the result."""
    seconds, theirs = timed(lambda: coordination.upstream(of_upstream))
    coordination.agree(coordination.ours(ours, make_chunks=True), theirs)
    del theirs
    lazy, materialized = _timed_ours(ours)
    return lazy, materialized, Timing(seconds, 1)


def _timed_ours(received: list[bytes]) -> tuple[Timing, Timing]:
    def materialized() -> coordination.Coordinated:
        done = coordination.ours(received, make_chunks=True)
        gc.collect(1)
        return done

    lazy, with_chunks = alternate(
        (lambda: coordination.ours(received, make_chunks=False), materialized), ROUNDS
    )
    return lazy, with_chunks


def _coordinate(received: list[bytes]) -> None:
    coordination.ours(received, make_chunks=True)
