"""``FileSystemWriter(path, atomic=True)`` on two ranks: in the background, and if a rank fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.tensor import Shard

import shardplan

from .state_dicts import StateDict, mesh, spread
from .world import Worlds, end_background_process


class Failing(shardplan.FileSystemWriter):
    """Fails on rank 1, after that rank has written its data."""

    def write_data(self, plan: Any, planner: Any) -> Any:
        written = super().write_data(plan, planner)
        written.wait()
        if dist.get_rank() == 1:
            raise OSError("the disk of rank 1 is gone")
        return written


def state_of(value: float) -> StateDict:
    sharded = spread(torch.full((5, 3), value), mesh(dist.get_world_size()), Shard(0))
    return {"sharded": sharded, "replicated": torch.full((4,), value)}


def loaded(path: Path) -> float:
    state = state_of(0.0)
    dcp.load(state, storage_reader=dcp.FileSystemReader(path))
    values = torch.cat([state["sharded"].to_local().reshape(-1), state["replicated"]]).unique()
    return float(values.item())


def save_in_many_ways(path: Path) -> Any:
    found: list[Any] = []

    def note() -> None:
        found.append((loaded(path), sorted(entry.name for entry in path.parent.iterdir())))
        dist.barrier()

    for value in (1.0, 2.0):
        dcp.save(state_of(value), storage_writer=shardplan.FileSystemWriter(path, atomic=True))
        note()
    try:
        dcp.save(state_of(3.0), storage_writer=Failing(path, atomic=True))
    except CheckpointException as error:
        found.append(sorted(error.failures))
    note()
    for value, kind in ((4.0, AsyncCheckpointerType.THREAD), (5.0, AsyncCheckpointerType.PROCESS)):
        dcp.async_save(
            state_of(value),
            storage_writer=shardplan.FileSystemWriter(path, atomic=True),
            async_checkpointer_type=kind,
        ).result()
        dist.barrier()
        note()
    end_background_process()
    return found


def test_the_path_has_the_last_whole_checkpoint(worlds: Worlds, tmp_path: Path) -> None:
    expected = [
        (1.0, ["step"]),
        (2.0, ["step"]),
        [1],
        (2.0, [".step.shardplan-saving", "step"]),
        (4.0, ["step"]),
        (5.0, ["step"]),
    ]
    assert worlds[2].run(save_in_many_ways, tmp_path / "step") == [expected] * 2
