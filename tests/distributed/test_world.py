"""The launcher itself: a failing job must be reported, and soon."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from .world import World, WorldError, Worlds


def ranks_sum(scale: int) -> tuple[int, int]:
    total = torch.tensor([dist.get_rank() * scale])
    dist.all_reduce(total)
    return dist.get_rank(), int(total)


def fail_on_one(how: str) -> None:
    if dist.get_rank() == 1:
        if how == "raise":
            raise ValueError("rank 1 does not like this")
        if how == "die":
            os._exit(9)
        if how == "hang":
            time.sleep(600)


def test_every_rank_returns_its_result(worlds: Worlds) -> None:
    assert worlds[3].run(ranks_sum, 10) == [(0, 30), (1, 30), (2, 30)]


def test_a_job_that_raises_dies_or_hangs_is_reported_and_the_next_one_runs(tmp_path: Path) -> None:
    world = World(2, tmp_path)
    try:
        expected = {"raise": "rank 1 does not like this", "die": "rank 1: died, exit code 9"}
        for how, words in expected.items():
            with pytest.raises(WorldError, match=words):
                world.run(fail_on_one, how)
        assert world.run(ranks_sum, 1) == [(0, 1), (1, 1)]
        started = time.monotonic()
        with pytest.raises(WorldError, match="rank 1: no result in 3 s"):
            world.run(fail_on_one, "hang", timeout=3)
        assert time.monotonic() - started < 10
    finally:
        world.close()
