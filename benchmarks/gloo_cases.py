"""Rows of a real save by four gloo processes: the whole, and the coordinator's planning."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed import distributed_c10d
from torch.distributed.checkpoint import DefaultSavePlanner
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.multiprocessing.spawn import spawn

import shardplan
from shardplan.dcp import wire

from .agreement import expect, same
from .harness import Row, Speedup, Timing
from .measures import Bound

RANKS = 4
PARAMETERS = 1_600
PLANNERS = {"ours": shardplan.DefaultSavePlanner, "upstream": DefaultSavePlanner}
WRITERS = {"ours": shardplan.FileSystemWriter, "upstream": dcp.FileSystemWriter}
HOOKS = ("set_up_planner", "create_local_plan", "create_global_plan", "finish_plan")
PICKLING = "pickling"
WHOLE = "whole dcp.save"

Times = dict[str, float]


def gloo_save(full: bool) -> Iterator[Row]:
    """A model of 1,600 small parameters with Adam, 6,412 entries; both save it in turn."""
    rounds = 9 if full else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spawn(_save_on_rank, (folder, rounds), nprocs=RANKS)
        entries, times = pickle.loads((folder / "times").read_bytes())
        expect(
            same(*(_metadata_of(folder / f"{who}-0") for who in PLANNERS)),
            "the saved metadata differs",
        )
    whole = [min(each.pop(WHOLE) for each in times[who]) for who in PLANNERS]
    yield Speedup(
        f"{WHOLE}, gloo, {RANKS} processes, {entries:,} entries",
        "on the coordinator, with shardplan's planner and writer",
        Timing(whole[0], rounds),
        Timing(whole[1], rounds),
        target=6,
    )
    ours, upstream = (min(times[who], key=_in_all) for who in PLANNERS)
    work = f"coordinator's planning in dcp.save, gloo, {RANKS} processes, {entries:,} entries"
    yield Bound(
        work,
        "processor time: every hook of the planner, pickling and unpickling of plans",
        _in_all(ours) * 1e3,
        _in_all(upstream) * 1e3,
        "ms",
        60,
    )
    for part in (*HOOKS, PICKLING):
        yield Bound(f"{part} of it", "", ours[part] * 1e3, upstream[part] * 1e3, "ms", target=None)


def nested_state_dict(mesh: DeviceMesh, parameters: int) -> dict[str, Any]:
    """A model and its AdamW as ``get_state_dict`` returns them: four entries a parameter and 12."""
    names = [f"layers.{at // 8}.block.{at % 8}.weight" for at in range(parameters)]
    group = torch.optim.AdamW([torch.zeros(1)]).state_dict()["param_groups"][0]
    # One size that all ranks share evenly, one that leaves the last rank less, and one that leaves
    # it nothing.
    rows = [(8, 6, 3)[at % 3] for at in range(parameters)]
    return {
        "model": {name: _sharded(mesh, size) for name, size in zip(names, rows, strict=True)},
        "optim": {
            "state": {
                name: {
                    "step": torch.tensor(1.0),
                    "exp_avg": _sharded(mesh, size),
                    "exp_avg_sq": _sharded(mesh, size),
                }
                for name, size in zip(names, rows, strict=True)
            },
            "param_groups": [{**group, "params": names}],
        },
    }


def _sharded(mesh: DeviceMesh, rows: int) -> DTensor:
    size = -(-rows // mesh.size())
    held = max(0, min(size, rows - size * mesh.get_local_rank()))
    return DTensor.from_local(
        torch.zeros(held, 4),
        mesh,
        [Shard(0)],
        run_check=False,
        shape=torch.Size((rows, 4)),
        stride=(4, 1),
    )


class Stopwatch:
    """Adds up the processor time of planning, by part, until planning is finished."""

    def __init__(self) -> None:
        self.times: defaultdict[str, float] = defaultdict(float)
        self._running = True

    def stop(self) -> None:
        self._running = False

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a call and adds its time to a part."""

        @functools.wraps(call)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                if self._running:
                    self.times[part] += time.thread_time() - started

        return wrapped

    def watch(self, planner: DefaultSavePlanner) -> None:
        """Times the hooks of a planner; the last hook stops the watch."""
        for hook in HOOKS:
            setattr(planner, hook, self.timed(hook, getattr(planner, hook)))
        last = planner.finish_plan

        def finish_plan(new_plan: Any) -> Any:
            try:
                return last(new_plan)
            finally:
                self.stop()

        planner.finish_plan = finish_plan  # type: ignore[method-assign]

    @contextlib.contextmanager
    def watching_collectives(self, pickler: Any) -> Iterator[None]:
        """Times the pickling, with this pickler, and the unpickling of torch's collectives."""
        before = distributed_c10d._pickler, distributed_c10d._unpickler

        class Pickler(pickler):  # type: ignore[misc]
            dump = self.timed(PICKLING, pickler.dump)

        class Unpickler(pickle.Unpickler):
            load = self.timed(PICKLING, pickle.Unpickler.load)

        distributed_c10d._pickler, distributed_c10d._unpickler = Pickler, Unpickler
        try:
            yield
        finally:
            distributed_c10d._pickler, distributed_c10d._unpickler = before


def _save_on_rank(rank: int, folder: Path, rounds: int) -> None:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    state = nested_state_dict(init_device_mesh("cpu", (RANKS,)), PARAMETERS)
    times: dict[str, list[Times]] = {who: [] for who in PLANNERS}
    for at in range(rounds):
        for who, taken in times.items():
            taken.append(_save(state, folder / f"{who}-{at}", who))
    if rank == 0:
        entries = len(flatten_state_dict(state)[0])
        (folder / "times").write_bytes(pickle.dumps((entries, times)))
    dist.barrier()
    dist.destroy_process_group()


def _save(state: dict[str, Any], folder: Path, who: str) -> Times:
    planner = PLANNERS[who]()
    watch = Stopwatch()
    watch.watch(planner)
    pickler = wire.Pickler if who == "ours" else pickle.Pickler
    writer = WRITERS[who](folder, sync_files=False)
    dist.barrier()
    started = time.perf_counter()
    with watch.watching_collectives(pickler):
        dcp.save(state, storage_writer=writer, planner=planner)
    return {**watch.times, WHOLE: time.perf_counter() - started}


def _metadata_of(folder: Path) -> Metadata:
    metadata: Metadata = pickle.loads((folder / ".metadata").read_bytes())
    # The id of the save always differs.
    metadata.storage_meta = None
    return metadata


def _in_all(times: Times) -> float:
    return sum(times.values())
