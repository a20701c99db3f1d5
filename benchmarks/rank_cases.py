"""Rows of a whole ``dcp.save`` and ``dcp.load`` on real gloo processes, stage by stage.

Shardplan and upstream run in processes of their own, so that neither has to collect the objects of
the other.
"""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import socket
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import spawn

import shardplan

from .agreement import expect, same
from .gloo_cases import Stopwatch, nested_state_dict
from .harness import Row, Speedup, Timing, show_seconds
from .measures import Bound

RANKS = 4
PARAMETERS = 1_137
WHO = ("ours", "upstream")
WHOLE = "whole"
# With more processes, upstream takes minutes.
MOST_WITH_UPSTREAM = 64
TARGETS = {"save": None, "load": 10}

Times = dict[str, float]
Stages = tuple[tuple[str, str], ...]
"""The planner or the storage, and the name of its method."""

STAGES: dict[str, Stages] = {
    "save": (
        ("planner", "create_local_plan"),
        ("planner", "create_global_plan"),
        ("storage", "write_data"),
        ("storage", "finish"),
    ),
    "load": (
        ("storage", "read_metadata"),
        ("planner", "create_local_plan"),
        ("storage", "read_data"),
    ),
}


@dataclass(frozen=True)
class Round:
    """Seconds of one save or load: a dict for each rank."""

    ranks: list[Times]

    @property
    def whole(self) -> float:
        return max(times[WHOLE] for times in self.ranks)

    def slowest(self, stage: str) -> float:
        return max(times.get(stage, 0.0) for times in self.ranks)

    def rest(self, stages: Stages) -> float:
        return self.whole - sum(self.slowest(stage) for _, stage in stages)

    def mean(self, stage: str) -> float:
        return statistics.fmean(times.get(stage, 0.0) for times in self.ranks)


def ranks(full: bool, count: int = RANKS) -> Iterator[Row]:
    """A model of 1,137 tiny parameters with Adam, 4,560 entries, on ``count`` processes."""
    least: dict[str, dict[str, Round]] = {}
    timings: dict[str, dict[str, Timing]] = {}
    metadata = []
    entries = 0
    for who in WHO if count <= MOST_WITH_UPSTREAM else ("ours",):
        rounds = 9 if full else 5
        if who == "upstream" and count == MOST_WITH_UPSTREAM:
            rounds = 1
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            spawn(_run, (who, count, folder, rounds, _free_port()), nprocs=count)
            taken = [pickle.loads((folder / f"times-{rank}").read_bytes()) for rank in range(count)]
            entries = taken[0]["entries"]
            metadata.append(pickle.loads((folder / "metadata").read_bytes()))
        least[who] = {
            what: min(
                (Round([of[what][at] for of in taken]) for at in range(rounds)),
                key=lambda each: each.whole,
            )
            for what in TARGETS
        }
        timings[who] = {what: Timing(least[who][what].whole, rounds) for what in TARGETS}
    expect(len(metadata) == 1 or same(*metadata), "the saved metadata differs")
    for what, stages in STAGES.items():
        work = f"dcp.{what}, {count} gloo processes, {entries:,} entries"
        counted = "the slowest rank; register(), nothing else"
        ours, upstream = least["ours"][what], least.get("upstream", {}).get(what)
        if upstream is None:
            yield Bound(work, counted, ours.whole * 1e3, None, "ms", target=None)
        else:
            yield Speedup(
                work, counted, timings["ours"][what], timings["upstream"][what], TARGETS[what]
            )
        for _, stage in stages:
            yield _stage_row(stage, ours, upstream)
        yield Bound(
            "the rest of it",
            "collectives, flattening, and waits for the slowest rank",
            ours.rest(stages) * 1e3,
            None if upstream is None else upstream.rest(stages) * 1e3,
            "ms",
            target=None,
        )


def _stage_row(stage: str, ours: Round, upstream: Round | None) -> Row:
    means = "" if upstream is None else f"{show_seconds(upstream.mean(stage))}, ours "
    return Bound(
        f"{stage} of it, the slowest rank",
        f"mean of the ranks: {means}{show_seconds(ours.mean(stage))}",
        ours.slowest(stage) * 1e3,
        None if upstream is None else upstream.slowest(stage) * 1e3,
        "ms",
        target=None,
    )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _run(rank: int, who: str, count: int, folder: Path, rounds: int, port: int) -> None:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    os.environ["LOCAL_WORLD_SIZE"] = str(count)  # as torchrun does
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=count)
    if who == "ours":
        shardplan.register()
    state = nested_state_dict(init_device_mesh("cpu", (count,)), PARAMETERS)
    entries = flatten_state_dict(state)[0]
    _fill(entries, rank)
    taken: dict[str, Any] = {"save": [], "load": [], "entries": len(entries)}
    checkpoint = folder / "checkpoint"
    for _ in range(rounds):
        writer = dcp.FileSystemWriter(checkpoint, sync_files=False)
        taken["save"].append(
            _round(
                functools.partial(dcp.save, state, storage_writer=writer),
                STAGES["save"],
                writer,
                dcp.DefaultSavePlanner(),
            )
        )
        _clear(entries)
        reader = dcp.FileSystemReader(checkpoint)
        taken["load"].append(
            _round(
                functools.partial(dcp.load, state, storage_reader=reader),
                STAGES["load"],
                reader,
                dcp.DefaultLoadPlanner(),
            )
        )
        _check(entries, rank)
        dist.barrier()
        if rank == 0:
            metadata = pickle.loads((checkpoint / ".metadata").read_bytes())
            metadata.storage_meta = None  # the id of the save always differs
            (folder / "metadata").write_bytes(pickle.dumps(metadata))
            shutil.rmtree(checkpoint)
        dist.barrier()
    (folder / f"times-{rank}").write_bytes(pickle.dumps(taken))
    dist.barrier()
    dist.destroy_process_group()


def _round(call: Callable[..., Any], stages: Stages, storage: Any, planner: Any) -> Times:
    watch = Stopwatch()
    for owner, stage in stages:
        of = planner if owner == "planner" else storage
        setattr(of, stage, watch.timed(stage, getattr(of, stage)))
    dist.barrier()
    watch.timed(WHOLE, call)(planner=planner)
    return dict(watch.times)


def _tensors(entries: dict[str, Any], rank: int) -> Iterator[tuple[str, torch.Tensor, float]]:
    """Names and local tensors, with a value for each; replicated ones have one value."""
    for at, (name, entry) in enumerate(entries.items()):
        if isinstance(entry, DTensor):
            yield name, entry.to_local(), 1.0 + at + rank / 64
        elif isinstance(entry, torch.Tensor):
            yield name, entry, 1.0 + at


def _fill(entries: dict[str, Any], rank: int) -> None:
    for _, tensor, value in _tensors(entries, rank):
        tensor.fill_(value)


def _clear(entries: dict[str, Any]) -> None:
    for _, tensor, _ in _tensors(entries, 0):
        tensor.zero_()


def _check(entries: dict[str, Any], rank: int) -> None:
    for name, tensor, value in _tensors(entries, rank):
        expect(bool((tensor == value).all()), f"{name} differs from what was saved")
