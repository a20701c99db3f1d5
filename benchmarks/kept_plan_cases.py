"""Rows of a caller that keeps every rank's plan in the metadata file, as Megatron does.

Each rank keeps its local plan. The coordinator gathers the plans for the metadata only, and its
planner is set up without the writer's ``storage_meta``. A rank that loads reads all plans.
"""

from __future__ import annotations

import dataclasses
import gc
import io
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.storage import WriteResult

import shardplan
from shardplan import default_planner
from shardplan.dcp.storage import metadata_file
from shardplan.dcp.upstream import originals

from . import coordination, finishing
from .agreement import expect, same
from .harness import Row, Speedup, Timing, alternate, timed
from .measures import Scaled
from .workloads import LLAMA3_405B, every_rank, fsdp, llama, with_adam
from .workloads.results import write_results

RANKS = 1_024
WHAT = "Llama-3-405B + Adam, plans kept in the file"
ROUNDS = 3
_LINES = (
    ("coordinator of a save", "plans and results in, file without fsync", 100),
    ("read_metadata", "the file is in the page cache; the plan of the rank is materialized", 10),
)

Received = tuple[list[bytes], list[bytes]]


def kept_plans(full: bool) -> Iterator[Row]:
    """405B under FSDP; 1,024 ranks at full size, where upstream is scaled from an eighth."""
    parameters = with_adam(llama(LLAMA3_405B))
    ranks = RANKS // 8 if full else RANKS // 32
    upstream, expected, mine = _upstream(ranks)
    with tempfile.TemporaryDirectory() as folder:
        ours = _timed_ours(mine, Path(folder))
        _agree(Path(folder), expected)
    del expected, mine
    for line, our_time, upstream_time in zip(_LINES, ours, upstream, strict=True):
        work = f"{line[0]}, {WHAT}, {ranks:,} ranks, {ranks * len(parameters):,} items"
        yield Speedup(work, line[1], our_time, upstream_time, line[2])
    if not full:
        return
    with tempfile.TemporaryDirectory() as folder:
        whole = _timed_ours(_send(RANKS, coordination.our_bytes, finishing.our_bytes), Path(folder))
    for line, our_time, upstream_time in zip(_LINES, whole, upstream, strict=True):
        work = f"{line[0]}, {WHAT}, {RANKS:,} ranks, {RANKS * len(parameters):,} items"
        yield Scaled(work, line[1], our_time, upstream_time, ranks / RANKS, line[2])


def _plans(ranks: int) -> Iterable[SavePlan]:
    for plan in every_rank(with_adam(llama(LLAMA3_405B)), fsdp(ranks)):
        yield dataclasses.replace(plan, planner_data={})


def _send(ranks: int, send_plan: Any, send_results: Any) -> Received:
    """Encodes what every rank sends."""
    plans, results = [], []
    for rank, plan in enumerate(_plans(ranks)):
        plans.append(send_plan(plan))
        results.append(send_results(write_results(plan, rank)))
    return plans, results


def _save(received: Received, planner: originals.DefaultSavePlanner, writer: Any) -> None:
    """The coordinator's work, without the writing of tensors."""
    planner.set_up_planner({}, is_coordinator=True)
    plans = [pickle.loads(one) for one in received[0]]
    _, metadata = planner.create_global_plan(plans)
    vars(metadata)["all_local_plans"] = plans
    planner.finish_plan(plans[0])
    results: list[list[WriteResult]] = [pickle.loads(one) for one in received[1]]
    writer.finish(metadata, results)


def _timed_ours(received: Received, folder: Path) -> tuple[Timing, ...]:
    def save() -> None:
        planner = default_planner.DefaultSavePlanner(flatten_state_dict=False)
        _save(received, planner, shardplan.FileSystemWriter(folder, sync_files=False))

    def read() -> Metadata:
        metadata = shardplan.FileSystemReader(folder).read_metadata()
        list(vars(metadata)["all_local_plans"][-1].items)
        return metadata

    save()
    return alternate((save, read), ROUNDS)


def _upstream(ranks: int) -> tuple[tuple[Timing, ...], bytes, Received]:
    """Times upstream. Returns its file too, and what shardplan's coordinator receives."""
    mine = _send(ranks, coordination.our_bytes, finishing.our_bytes)
    theirs = _send(ranks, coordination.upstream_bytes, finishing.upstream_bytes)
    with tempfile.TemporaryDirectory() as folder:
        planner = originals.DefaultSavePlanner(flatten_state_dict=False)
        writer = dcp.FileSystemWriter(folder, sync_files=False)
        save, _ = timed(lambda: _save(theirs, planner, writer))
        gc.collect()
        read, metadata = timed(lambda: dcp.FileSystemReader(folder).read_metadata())
        del metadata
        gc.collect()
        return (
            (Timing(save, 1), Timing(read, 1)),
            Path(folder, ".metadata").read_bytes(),
            mine,
        )


def _agree(folder: Path, expected: bytes) -> None:
    """Compares the files of both as upstream and as shardplan read them, except for paths."""
    ours = (folder / ".metadata").read_bytes()
    wanted = pickle.loads(expected)
    wanted.storage_meta = None
    for found in (pickle.loads(ours), metadata_file.load(io.BytesIO(ours), folder, False)):
        found.storage_meta = None
        expect(same(found, wanted), "the metadata differs")
        for one, other in zip(found.all_local_plans, wanted.all_local_plans, strict=True):
            expect(same(one, other), "a plan in the file differs")
