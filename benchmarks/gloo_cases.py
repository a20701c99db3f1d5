"""Rows of a real save of four gloo processes."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from shardplan import _stock, _wire, default_planner

from .agreement import expect
from .harness import Row, Timing
from .measures import Bound

RANKS = 4
LAYERS = 229  # seven parameters and their three states each: 6,412 entries
ROUNDS = 5

# Seconds by stage, on the coordinator.
Spent = dict[str, float]


def gloo(full: bool) -> Iterator[Row]:
    """All that planning costs the coordinator of four real processes, and of it the flattening."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (folder,), RANKS)
        ours, upstream = pickle.loads(Path(folder, "spent").read_bytes())
    entries = LAYERS * 7 * 4
    work = f"save of {RANKS} gloo processes, {entries:,} entries, on the coordinator"
    yield Bound(
        work,
        "set_up_planner, local and global plan, finish_plan, and the pickling between",
        1e3 * _least(ours, sum_of_all).seconds,
        1e3 * _least(upstream, sum_of_all).seconds,
        "ms",
        60,
    )
    yield Bound(
        "of it, set_up_planner",
        "the flattening, which is upstream's",
        1e3 * _least(ours, lambda spent: spent["set_up_planner"]).seconds,
        1e3 * _least(upstream, lambda spent: spent["set_up_planner"]).seconds,
        "ms",
        20,
    )


def sum_of_all(spent: Spent) -> float:
    return sum(spent.values())


def _least(rounds: list[Spent], what: Callable[[Spent], float]) -> Timing:
    return Timing(min(map(what, rounds)), len(rounds))


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    try:
        state = _state()
        spent: dict[str, list[Spent]] = {"ours": [], "upstream": []}
        for turn in range(ROUNDS):
            for who in spent:
                spent[who].append(_save(state, who, f"{folder}/{who}{turn}"))
        if rank == 0:
            saved = [Path(folder, f"{who}0", ".metadata").read_bytes() for who in spent]
            mine, theirs = (pickle.loads(one) for one in saved)
            mine.storage_meta = theirs.storage_meta = None
            expect(mine == theirs, "ours and upstream write other metadata")
            Path(folder, "spent").write_bytes(pickle.dumps(list(spent.values())))
    finally:
        dist.destroy_process_group()


def _state() -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (RANKS,))

    def tensor() -> Any:
        return distribute_tensor(torch.zeros(8, 4), mesh, [Shard(0)])

    names = [f"layers.{layer}.part{part}.weight" for layer in range(LAYERS) for part in range(7)]
    states = ("exp_avg", "exp_avg_sq", "step")
    return {
        "model": {name: tensor() for name in names},
        "optimizer": {"state": {name: {key: tensor() for key in states} for name in names}},
    }


def _save(state: dict[str, Any], who: str, folder: str) -> Spent:
    spent: Spent = {}
    ours = who == "ours"
    planner = _timing(
        default_planner.DefaultSavePlanner if ours else _stock.DefaultSavePlanner, spent
    )
    stock_pickler, stock_unpickler = pickle.Pickler, pickle.Unpickler
    c10d: Any = dist.distributed_c10d
    c10d._pickler = _timed_pickler(_wire.Pickler if ours else stock_pickler, "dump", spent)
    c10d._unpickler = _timed_pickler(stock_unpickler, "load", spent)
    try:
        writer = dcp.FileSystemWriter(folder, sync_files=False)
        dcp.save(state, storage_writer=writer, planner=planner)
    finally:
        c10d._pickler, c10d._unpickler = stock_pickler, stock_unpickler
    return spent


def _timing(planner_class: Any, spent: Spent) -> Any:
    """A planner that adds up what its four hooks take, until the plans are finished."""

    def timed(name: str) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return getattr(planner_class, name)(self, *args, **kwargs)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
                self.finished = name == "finish_plan"
                spent.setdefault("pickling", 0.0)
                _pickling[0] = None if self.finished else spent

        call.__name__ = name
        return call

    hooks: dict[str, Any] = {
        name: timed(name) for name in ("create_local_plan", "create_global_plan", "finish_plan")
    }

    # DCP looks at this one's signature.
    def set_up_planner(
        self: Any, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False
    ) -> None:
        timed("set_up_planner")(self, state_dict, storage_meta, is_coordinator)

    return type("Timed", (planner_class,), {**hooks, "set_up_planner": set_up_planner})()


# Where the pickling of plans is counted, from the local plan to the final one.
_pickling: list[Spent | None] = [None]


def _timed_pickler(cls: Any, method: str, spent: Spent) -> Any:
    def call(self: Any, *args: Any) -> Any:
        started = time.perf_counter()
        try:
            return getattr(cls, method)(self, *args)
        finally:
            if _pickling[0] is spent:
                spent["pickling"] += time.perf_counter() - started

    return type("Timed", (cls,), {method: call})
