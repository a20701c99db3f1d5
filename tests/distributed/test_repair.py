"""``shardplan repair`` merges what ranks saved without collectives, and upstream loads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import Replicate, Shard

from .checkpoints import Held, identical, whole
from .planning import OURS, planning
from .state_dicts import StateDict, blank, held, mesh, numbers, spread
from .world import Worlds


def state() -> StateDict:
    """Makes a state whose values are the same for any number of ranks."""
    size = dist.get_world_size()
    return {
        "model": {
            "rows": spread(numbers(7, 2), mesh(size), Shard(0)),
            "columns": spread(numbers(3, 9), mesh(size), Shard(1)),
            "few": spread(numbers(1, 4), mesh(size), Shard(0)),
            "copies": spread(numbers(6), mesh(size), Replicate()),
            "plain": numbers(5, dtype=torch.bfloat16),
            "scalar": torch.tensor(2.5),
        },
        "layers": [{"w": numbers(2)}, {"w": numbers(4)}],
        "step": 7,
    }


def state_on_a_grid() -> StateDict:
    return {"grid": spread(numbers(6, 8), mesh(2, 2), Shard(0), Shard(1))}


def save(folders: dict[str, Path], build: Any, collectives: bool) -> Held:
    for who, folder in folders.items():
        with planning(who) as planners:
            dcp.save(
                build(),
                storage_writer=dcp.FileSystemWriter(folder),
                planner=planners.save(),
                use_collectives=collectives,
            )
    return held(build())


def load(folder: Path, build: Any) -> Held:
    loaded = blank(build)
    dcp.load(loaded, storage_reader=dcp.FileSystemReader(folder))
    return held(loaded)


def repair(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "shardplan", "repair", str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("who", ["upstream", *OURS])
def test_any_number_of_processes_loads_the_merged_checkpoint(
    worlds: Worlds, tmp_path: Path, who: str
) -> None:
    folder = tmp_path / who
    saved = worlds[3].run(save, {who: folder}, state, False)
    assert not (folder / ".metadata").exists()
    assert "__0.metadata to __2.metadata" in repair(folder)
    for size in (1, 2, 3, 4):
        loaded = worlds[size].run(load, folder, state)
        assert identical(_values(loaded), _values(saved)), size


def _values(ranks: list[Held]) -> Held:
    """Returns the whole tensors, and one rank's values of all else, which are equal."""
    return {
        path: value[0] if isinstance(value, list) else value for path, value in whole(ranks).items()
    }


def test_a_grid(worlds: Worlds, tmp_path: Path) -> None:
    folder = tmp_path / "grid"
    saved = worlds[4].run(save, {"upstream": folder}, state_on_a_grid, False)
    repair(folder)
    loaded = worlds[4].run(load, folder, state_on_a_grid)
    assert identical(_values(loaded), _values(saved))


def test_the_merged_metadata_is_that_of_a_save_with_collectives(
    worlds: Worlds, tmp_path: Path
) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    worlds[3].run(save, {"upstream": alone}, state, False)
    worlds[3].run(save, {"upstream": together}, state, True)
    repair(alone)
    ours = dcp.FileSystemReader(alone).read_metadata()
    theirs = dcp.FileSystemReader(together).read_metadata()
    assert ours.state_dict_metadata.keys() == theirs.state_dict_metadata.keys()
    assert ours.state_dict_metadata == theirs.state_dict_metadata
    assert ours.storage_data.keys() == theirs.storage_data.keys()
    indices = {(key.fqn, key.offset): key.index for key in theirs.storage_data}
    assert {(key.fqn, key.offset): key.index for key in ours.storage_data} == indices
    assert ours.planner_data == theirs.planner_data
    assert ours.version == theirs.version
