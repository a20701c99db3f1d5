"""``async_save`` in a thread and in a process."""

from __future__ import annotations

import os
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.tensor import Shard

import shardplan

from .checkpoints import assert_same_checkpoint
from .planning import planning
from .state_dicts import StateDict, mesh, numbers, spread
from .world import Worlds, end_background_process

# The planners, and whether one is passed; in this order, since DCP keeps the process.
WAYS = (
    "upstream",
    "ours",
    "registered",
    "registered, no planner",
    "upstream, after unregister()",
    "upstream, no planner",
    "registered, again",
)


def state(extra: int) -> StateDict:
    return {
        "w": spread(numbers(7, 2), mesh(2), Shard(0)),
        "nested": [numbers(3), {"n": extra}],
        "same": numbers(4),
    }


class RecordingWriter(dcp.FileSystemWriter):
    """Writes, for each rank, a file with the process that planned and the type of its list."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        path = Path(self.path)
        note = f"{os.getpid()} {type(plan.items).__module__}"
        path.with_name(f"{path.name} noted by {dist.get_rank()}").write_text(note)
        return super().prepare_local_plan(plan)


def save_async(kind: AsyncCheckpointerType, base: Path) -> int:
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    for way in WAYS:
        with planning(way.partition(",")[0]) as planners:
            done = dcp.async_save(
                state(3),
                storage_writer=RecordingWriter(base / way, sync_files=False),
                planner=None if "no planner" in way else planners.save(),
                async_checkpointer_type=kind,
            )
            assert isinstance(done, Future)
            done.result(timeout=60)
    end_background_process()
    return os.getpid()


@pytest.fixture(scope="module", params=list(AsyncCheckpointerType), ids=lambda kind: kind.value)
def saved(
    request: Any, worlds: Worlds, tmp_path_factory: pytest.TempPathFactory
) -> tuple[AsyncCheckpointerType, Path, list[int]]:
    kind: AsyncCheckpointerType = request.param
    base = tmp_path_factory.mktemp(kind.value)
    return kind, base, worlds[2].run(save_async, kind, base, timeout=120)


Saved = tuple[AsyncCheckpointerType, Path, list[int]]


@pytest.mark.parametrize("way", WAYS[1:])
def test_same_files(saved: Saved, way: str) -> None:
    _, base, _ = saved
    assert_same_checkpoint(base / way, base / "upstream")


@pytest.mark.parametrize("way", WAYS)
def test_the_right_process_and_planner_plan(saved: Saved, way: str) -> None:
    kind, base, processes = saved
    for rank in range(2):
        process, items = (base / f"{way} noted by {rank}").read_text().split()
        assert (int(process) == processes[rank]) == (kind is AsyncCheckpointerType.THREAD)
        assert items == ("builtins" if way.startswith("upstream") else "shardplan.dcp.lazy.items")


SAVES = 3


def save_overlapping(base: Path) -> None:
    """Saves several state dicts at once, each with a process group of its own."""
    groups = [dist.new_group(backend="gloo") for _ in range(SAVES)]
    for number in range(SAVES):
        writer = dcp.FileSystemWriter(base / f"one by one {number}", sync_files=False)
        dcp.save(state(number), storage_writer=writer)
    for way in ("upstream", "ours", "registered", "ours on even ranks"):
        with planning(way) as planners:
            writer_kind = dcp.FileSystemWriter if way == "upstream" else shardplan.FileSystemWriter
            saves = [
                dcp.async_save(
                    state(number),
                    storage_writer=writer_kind(base / f"{way} {number}", sync_files=False),
                    planner=planners.save(enable_plan_caching=number == 2),
                    process_group=group,
                )
                for number, group in enumerate(groups)
            ]
            for save in saves:
                assert isinstance(save, Future)
                save.result(timeout=60)


def test_saves_that_overlap(worlds: Worlds, tmp_path: Path) -> None:
    worlds[2].run(save_overlapping, tmp_path, timeout=120)
    for folder in tmp_path.iterdir():
        assert_same_checkpoint(folder, tmp_path / f"one by one {folder.name[-1]}")
    assert len(list(tmp_path.iterdir())) == 5 * SAVES
