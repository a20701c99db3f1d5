"""``use_collectives=False``, one metadata file a rank, and saves without a process group."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import Shard

from .checkpoints import Held, assert_same_checkpoint, identical, writer
from .planning import ALL, OURS, planning
from .state_dicts import StateDict, blank, held, mesh, numbers, spread
from .world import Worlds


def state() -> StateDict:
    rank = dist.get_rank()
    return {
        "w": spread(numbers(7, 2), mesh(3), Shard(0)),
        "mine": {f"only on {rank}": numbers(rank + 1)},
        "same": numbers(3),
        "n": rank,
    }


def save_alone(folders: dict[str, Path]) -> None:
    for who, folder in folders.items():
        with planning(who) as planners:
            planner = planners.save()
            dcp.save(state(), storage_writer=writer(folder), planner=planner, use_collectives=False)


def load_alone(folders: list[Path], who: str) -> tuple[Held, list[Held]]:
    after = []
    for folder in folders:
        loaded = blank(state)
        with planning(who) as planners:
            dcp.load(loaded, checkpoint_id=folder, planner=planners.load())
        after.append(held(loaded))
    return held(state()), after


def test_a_metadata_file_for_each_rank(worlds: Worlds, tmp_path: Path) -> None:
    folders = {who: tmp_path / who for who in ALL}
    worlds[3].run(save_alone, folders)
    names = {path.name for path in (tmp_path / "upstream").iterdir()}
    assert {"__0.metadata", "__1.metadata", "__2.metadata"} <= names
    assert ".metadata" not in names
    for who in OURS:
        assert_same_checkpoint(folders[who], folders["upstream"])
    for who in ALL:
        for before, loads in worlds[3].run(load_alone, list(folders.values()), who):
            for after in loads:
                assert identical(after, before)


LOCAL = ("upstream", "ours", "registered")


def local_state() -> StateDict:
    return {"model": {"w": numbers(3, 4), "layers": [numbers(2), numbers(1)]}, "n": 3, "s": b"x"}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_no_process_group(tmp_path: Path) -> None:
    assert not dist.is_initialized()
    for who in LOCAL:
        with planning(who) as planners:
            storage = writer(tmp_path / who)
            dcp.save(local_state(), storage_writer=storage, planner=planners.save())
        assert_same_checkpoint(tmp_path / who, tmp_path / "upstream")
    for who in LOCAL:
        for saved_by in LOCAL:
            loaded = blank(local_state)
            with planning(who) as planners:
                dcp.load(loaded, checkpoint_id=tmp_path / saved_by, planner=planners.load())
            assert identical(held(loaded), held(local_state()))


def save_on_each_rank(base: Path) -> None:
    for who in LOCAL:
        folder = base / f"{who} {dist.get_rank()}"
        with planning(who) as planners:
            planner = planners.save()
            dcp.save(local_state(), storage_writer=writer(folder), planner=planner, no_dist=True)


def test_no_dist_inside_a_process_group(worlds: Worlds, tmp_path: Path) -> None:
    worlds[2].run(save_on_each_rank, tmp_path)
    for who in LOCAL:
        for rank in range(2):
            assert_same_checkpoint(tmp_path / f"{who} {rank}", tmp_path / "upstream 0")
