"""A rank with a GPU that fails or stops while plans and metadata travel through NCCL."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import Shard

import shardplan
from distributed.planning import ALL, OURS, described, planning
from distributed.state_dicts import StateDict, mesh, numbers, spread
from distributed.world import World

from .conftest import BACKENDS

Gpus = Callable[[str], World]
TIMEOUT = 2.0


def state() -> StateDict:
    return {"w": spread(numbers(7, 2), mesh(2), Shard(0)), "same": numbers(4), "n": 3}


class FullDisk(dcp.FileSystemWriter):
    """Rank 1 cannot write."""

    def write_data(self, *args: Any) -> Any:
        if dist.get_rank() == 1:
            raise OSError(28, "No space left on device")
        return super().write_data(*args)


def errors(base: Path) -> dict[str, list[Any]]:
    """What a save that cannot be written raises, and a load of a tensor that was not saved."""
    raised: dict[str, list[Any]] = {}
    for who in ALL:
        raised[who] = []
        with planning(who) as planners:
            good = base / who
            dcp.save(state(), checkpoint_id=good, planner=planners.save())
            writer = FullDisk(base / f"{who}, full", sync_files=False)
            with pytest.raises(dcp.CheckpointException) as full:
                dcp.save(state(), storage_writer=writer, planner=planners.save())
            more = state() | {"more": numbers(3)}
            with pytest.raises(dcp.CheckpointException) as missing:
                dcp.load(more, checkpoint_id=good, planner=planners.load())
            raised[who] += [described(full.value), described(missing.value)]
    return raised


@pytest.mark.parametrize("backend", BACKENDS)
def test_same_errors(gpus: Gpus, tmp_path: Path, backend: str) -> None:
    for raised in gpus(backend).run(errors, tmp_path):
        upstream = raised["upstream"]
        assert [text for kind, *text in upstream] and len(upstream) == 2
        for who in OURS:
            assert raised[who] == upstream


def late(base: Path) -> tuple[list[int], str, float]:
    """Returns the ranks that the error of a save names, its text, and when it was raised."""
    with shardplan.registered(timeout=TIMEOUT):
        dcp.save(state(), checkpoint_id=base / "in time")
        dist.barrier()
        start = time.monotonic()
        if dist.get_rank() == 1:
            time.sleep(3 * TIMEOUT)
        with pytest.raises(dcp.CheckpointException) as raised:
            dcp.save(state(), checkpoint_id=base / "late")
    failures = raised.value.failures
    text = " ".join(str(error) for error, _ in failures.values())
    return sorted(failures), text, time.monotonic() - start


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_late_rank_is_named_at_the_deadline(gpus: Gpus, tmp_path: Path, backend: str) -> None:
    ranks = gpus(backend).run(late, tmp_path)
    named, text, seconds = ranks[0]
    assert named == [1] and "rank 1" in text
    assert TIMEOUT <= seconds < 3 * TIMEOUT
