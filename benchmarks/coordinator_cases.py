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
UNFILLED = "bytes in to bytes out, no chunk made"
FILLED = "the same, every upstream chunk made, and the collection that follows"
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
    unfilled, filled, upstream = _timed_pair(ours_bytes, upstream_bytes)
    work = f"coordinator, {what}, {ranks:,} ranks, {items:,} items"
    yield Speedup(work, UNFILLED, unfilled, upstream, 300)
    yield Speedup(work, FILLED, filled, upstream, 150)
    if not full:
        return
    del ours_bytes, upstream_bytes
    everyone = [coordination.our_bytes(plan) for plan in every_rank(parameters, fsdp(RANKS))]
    whole, whole_filled = _timed_ours(everyone)
    work = f"coordinator, {what}, {RANKS:,} ranks, {RANKS * len(parameters):,} items"
    yield Scaled(work, UNFILLED, whole, upstream, ranks / RANKS, 300)
    yield Scaled(work, FILLED, whole_filled, upstream, ranks / RANKS, 150)
    yield Growth(f"{work}, against {ranks:,} ranks", UNFILLED, unfilled, whole, 1.5 * RANKS / ranks)
    yield Bound(
        f"peak memory of the same, {RANKS:,} ranks",
        "above the interpreter's with torch; every upstream chunk made",
        peak_memory(_coordinate, everyone) / 1e9,
        None,
        "GB",
        2,
    )


def _race(plans: Iterable[SavePlan], what: str, target: float) -> Iterator[Row]:
    ours_bytes, upstream_bytes, items = _send(plans)
    unfilled, filled, upstream = _timed_pair(ours_bytes, upstream_bytes)
    work = f"coordinator, {what}, {len(ours_bytes):,} ranks, {items:,} items"
    yield Speedup(work, UNFILLED, unfilled, upstream, target)
    yield Speedup(work, FILLED, filled, upstream, None)


def _send(plans: Iterable[SavePlan]) -> tuple[list[bytes], list[bytes], int]:
    """Every plan as ours and as upstream pickles send it, and the number of items."""
    ours, of_upstream, items = [], [], 0
    for plan in plans:
        ours.append(coordination.our_bytes(plan))
        of_upstream.append(coordination.upstream_bytes(plan))
        items += len(plan.items)
    return ours, of_upstream, items


def _timed_pair(ours: list[bytes], of_upstream: list[bytes]) -> tuple[Timing, Timing, Timing]:
    """Ours without and with chunks, and upstream, timed by the call that ours is checked by."""
    seconds, theirs = timed(lambda: coordination.upstream(of_upstream))
    coordination.agree(coordination.ours(ours, make_chunks=True), theirs)
    del theirs
    unfilled, filled = _timed_ours(ours)
    return unfilled, filled, Timing(seconds, 1)


def _timed_ours(arrived: list[bytes]) -> tuple[Timing, Timing]:
    def filled() -> coordination.Coordinated:
        done = coordination.ours(arrived, make_chunks=True)
        gc.collect(1)
        return done

    unfilled, with_chunks = alternate(
        (lambda: coordination.ours(arrived, make_chunks=False), filled), ROUNDS
    )
    return unfilled, with_chunks


def _coordinate(arrived: list[bytes]) -> None:
    coordination.ours(arrived, make_chunks=True)
