"""``enable_plan_caching``: plans are kept between saves, and sent only if they changed."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.planner import SavePlanner
from torch.distributed.tensor import Shard

from plan_caches import CACHES, clear_plan_caches

from .checkpoints import assert_same_checkpoint, writer
from .planning import ALL, OURS, planning
from .state_dicts import mesh, numbers, spread
from .world import Worlds


def save_three_times(folders: dict[str, Path]) -> dict[str, dict[str, int]]:
    """Saves twice the same and once one more tensor. Returns the size of each cache."""
    kept = {}
    for who, folder in folders.items():
        clear_plan_caches()
        state = {"w": spread(numbers(5), mesh(2), Shard(0)), "n": 3, "r": torch.ones(4)}
        with planning(who) as planners:
            for i in range(3):
                if i == 2:
                    state["more"] = spread(numbers(3), mesh(2), Shard(0))
                planner = planners.save(enable_plan_caching=True)
                dcp.save(state, storage_writer=writer(folder / str(i)), planner=planner)
        kept[who] = {name: len(getattr(SavePlanner, name)) for name in CACHES}
        clear_plan_caches()
    return kept


def test_same_files_and_the_same_caches(worlds: Worlds, tmp_path: Path) -> None:
    assert CACHES
    kept = worlds[2].run(save_three_times, {who: tmp_path / who for who in ALL})
    for who in OURS:
        for i in range(3):
            assert_same_checkpoint(tmp_path / who / str(i), tmp_path / "upstream" / str(i))
        for rank in kept:
            assert rank[who] == rank["upstream"]
