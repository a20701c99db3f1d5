"""Rows of the work after planning in a save and a load: metadata, without tensor bytes."""

from __future__ import annotations

import gc
import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata

import shardplan
from shardplan import default_planner
from shardplan.dcp.upstream import originals

from . import coordination, finishing
from .agreement import expect, same
from .harness import Row, Speedup, Timing, alternate, timed
from .measures import Bound, Scaled, peak_memory
from .workloads import LLAMA3_405B, every_rank, fsdp, llama, state_dict, with_adam, world
from .workloads.results import write_results

RANKS = 1_024
WHAT = "Llama-3-405B + Adam"
ROUNDS = 5


@dataclass(frozen=True)
class Received:
    """The bytes that the coordinator receives from all ranks."""

    plans: list[bytes]
    results: list[bytes]


@dataclass(frozen=True)
class Times:
    """Seconds of each part of a save, and of a load on one rank."""

    plan: Timing
    finish: Timing
    unpickle: Timing
    read: Timing
    load_plan: Timing


def storage(full: bool) -> Iterator[Row]:
    """405B under FSDP; 1,024 ranks at full size, where upstream is scaled from an eighth."""
    ranks = RANKS // 8 if full else RANKS // 32
    parameters = with_adam(llama(LLAMA3_405B))
    mine, theirs = _send(ranks)
    yield _memory(mine, theirs, ranks)
    with tempfile.TemporaryDirectory() as folder:
        upstream, sent, metadata = _upstream(theirs, ranks, Path(folder, "upstream"))
        del theirs
        ours, our_sent = _ours(mine, ranks, Path(folder, "ours"))
        finishing.agree(our_sent, sent, (Path(folder, "ours"), Path(folder, "upstream")))
    chunks = ranks * len(parameters)
    yield Bound(
        f"the Metadata that each rank gets, {WHAT}, {ranks:,} ranks",
        "with its storage entry and mappings",
        len(our_sent) / chunks,
        len(sent) / chunks,
        "bytes a chunk",
        25,
    )
    del metadata
    for name, counted, target in _LINES:
        work = f"{name}, {WHAT}, {ranks:,} ranks, {chunks:,} chunks"
        yield Speedup(work, counted, *_both(name, ours, upstream), target)
    if not full:
        return
    mine, _ = _send(RANKS, of_upstream=False)
    with tempfile.TemporaryDirectory() as folder:
        whole, _ = _ours(mine, RANKS, Path(folder))
    for name, counted, target in _LINES:
        work = f"{name}, {WHAT}, {RANKS:,} ranks, {RANKS * len(parameters):,} chunks"
        yield Scaled(work, counted, *_both(name, whole, upstream), ranks / RANKS, target)


def _memory(mine: Received, theirs: Received, ranks: int) -> Row:
    ours = peak_memory(_coordinate_ours, mine) / 1e9
    upstream = peak_memory(_coordinate_upstream, theirs) / 1e9
    return Bound(
        f"coordinator's peak memory, {WHAT}, {ranks:,} ranks",
        "planning and finish; above the interpreter's with torch",
        ours,
        upstream,
        "GB",
        upstream / 4,
    )


def _coordinate_ours(received: Received) -> None:
    with tempfile.TemporaryDirectory() as folder:
        metadata = coordination.ours(received.plans, make_chunks=False)[1]
        finishing.ours(received.results, metadata, Path(folder))


def _coordinate_upstream(received: Received) -> None:
    with tempfile.TemporaryDirectory() as folder:
        metadata = coordination.upstream(received.plans)[1]
        finishing.upstream(received.results, metadata, Path(folder))


_LINES = (
    ("finish on the coordinator", "results in, file without fsync, broadcast out", 30),
    ("the Metadata on each rank", "unpickled, stays lazy", 50),
    ("read_metadata", "the file is in the page cache", 30),
    ("local load plan from that metadata", "items stay lazy", 50),
    ("all coordination of a save", "planning and finish; no tensor bytes", 50),
)


def _both(name: str, ours: Times, upstream: Times) -> tuple[Timing, Timing]:
    return _part(name, ours), _part(name, upstream)


def _part(name: str, times: Times) -> Timing:
    if name == "all coordination of a save":
        return Timing(times.plan.seconds + times.finish.seconds, times.finish.rounds)
    at = [line[0] for line in _LINES].index(name)
    return (times.finish, times.unpickle, times.read, times.load_plan)[at]


def _send(ranks: int, of_upstream: bool = True) -> tuple[Received, Received]:
    """Encodes what every rank sends, as shardplan and as upstream."""
    mine, theirs = Received([], []), Received([], [])
    plans = every_rank(with_adam(llama(LLAMA3_405B)), fsdp(ranks))
    for rank, plan in enumerate(plans):
        results = write_results(plan, rank)
        mine.plans.append(coordination.our_bytes(plan))
        mine.results.append(finishing.our_bytes(results))
        if of_upstream:
            theirs.plans.append(coordination.upstream_bytes(plan))
            theirs.results.append(finishing.upstream_bytes(results))
    return mine, theirs


def _upstream(received: Received, ranks: int, folder: Path) -> tuple[Times, bytes, Metadata]:
    folder.mkdir()
    plan, (_, metadata) = timed(lambda: coordination.upstream(received.plans))
    finish, sent = timed(lambda: finishing.upstream(received.results, metadata, folder))
    del metadata
    gc.collect()
    unpickle, got = timed(lambda: pickle.loads(sent))
    del got
    read, metadata = timed(lambda: dcp.FileSystemReader(folder).read_metadata())
    with world(ranks // 2, ranks):
        entries = state_dict(with_adam(llama(LLAMA3_405B)), fsdp(ranks))
        load, _ = timed(lambda: originals.create_default_local_load_plan(entries, metadata))
    parts = [Timing(seconds, 1) for seconds in (plan, finish, unpickle, read, load)]
    return Times(*parts), sent, metadata


def _ours(received: Received, ranks: int, folder: Path) -> tuple[Times, bytes]:
    folder.mkdir(exist_ok=True)

    def planned() -> Metadata:
        return coordination.ours(received.plans, make_chunks=False)[1]

    metadata = planned()
    sent = finishing.ours(received.results, metadata, folder)
    read = shardplan.FileSystemReader(folder).read_metadata()
    with world(ranks // 2, ranks):
        entries = state_dict(with_adam(llama(LLAMA3_405B)), fsdp(ranks))
        timings = alternate(
            (
                planned,
                lambda: finishing.ours(received.results, metadata, folder),
                lambda: pickle.loads(sent),
                lambda: shardplan.FileSystemReader(folder).read_metadata(),
                lambda: default_planner.create_default_local_load_plan(entries, read),
            ),
            ROUNDS,
        )
        if len(received.plans) < RANKS:
            of_upstream = dcp.FileSystemReader(folder).read_metadata()
            of_upstream.storage_meta = read.storage_meta
            expect(
                same(
                    default_planner.create_default_local_load_plan(entries, read).items,
                    originals.create_default_local_load_plan(entries, of_upstream).items,
                ),
                "the load plan from shardplan's metadata differs",
            )
            expect(same(read, of_upstream), "the metadata that is read differs")
    return Times(*timings), sent
