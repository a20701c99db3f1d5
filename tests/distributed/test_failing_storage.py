"""Storage that fails in one step: every rank must raise the same as with upstream's planners."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import Shard
from torch.futures import Future

from .checkpoints import identical, writer
from .planning import ALL, described, planning
from .state_dicts import StateDict, blank, held, mesh, numbers, spread
from .world import Worlds

RANKS = [(0,), (1,), (2,), (0, 2), (0, 1, 2)]
ON_EACH_RANK_SAVING = [
    "storage_meta",
    "set_up_storage_writer",
    "prepare_local_plan",
    "write_data",
    "write_data's future",
]
ON_EACH_RANK_LOADING = [
    "read_metadata",
    "set_up_storage_reader",
    "prepare_local_plan",
    "read_data",
    "read_data's future",
]


class Failing:
    """Fails in one step, on some ranks."""

    step: str
    ranks: tuple[int, ...]

    def reach(self, step: str) -> None:
        rank = dist.get_rank()
        if step == self.step and rank in self.ranks:
            raise OSError(f"{step} fails on rank {rank}")

    def in_future(self, step: str, future: Future[Any]) -> Future[Any]:
        try:
            self.reach(step)
        except OSError as error:
            future = Future()
            future.set_exception(error)
        return future


class FailingWriter(Failing, dcp.FileSystemWriter):
    def __init__(self, path: Path, step: str, ranks: tuple[int, ...]) -> None:
        super().__init__(path, sync_files=False)
        self.step, self.ranks = step, ranks

    def storage_meta(self) -> StorageMeta | None:
        self.reach("storage_meta")
        return super().storage_meta()

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        self.reach("set_up_storage_writer")
        super().set_up_storage_writer(is_coordinator, *args, **kwargs)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        self.reach("prepare_local_plan")
        return super().prepare_local_plan(plan)

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        self.reach("prepare_global_plan")
        return super().prepare_global_plan(plans)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        self.reach("write_data")
        return self.in_future("write_data's future", super().write_data(plan, planner))

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        self.reach("finish")
        super().finish(metadata, results)


class FailingReader(Failing, dcp.FileSystemReader):
    def __init__(self, path: Path, step: str, ranks: tuple[int, ...]) -> None:
        super().__init__(path)
        self.step, self.ranks = step, ranks

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        self.reach("read_metadata")
        return super().read_metadata(*args, **kwargs)

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        self.reach("set_up_storage_reader")
        super().set_up_storage_reader(metadata, is_coordinator, *args, **kwargs)

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        self.reach("prepare_local_plan")
        return super().prepare_local_plan(plan)

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        self.reach("prepare_global_plan")
        return super().prepare_global_plan(plans)

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        self.reach("read_data")
        return self.in_future("read_data's future", super().read_data(plan, planner))


def state() -> StateDict:
    return {"w": spread(numbers(7, 2), mesh(3), Shard(0)), "same": numbers(3), "n": 3}


def save_failing(step: str, ranks: tuple[int, ...], base: Path) -> dict[str, Any]:
    """Returns each planner's error on this rank. A working save follows: the ranks are in step."""
    raised = {}
    for who in ALL:
        with planning(who) as planners:
            storage = FailingWriter(base / who, step, ranks)
            with pytest.raises(CheckpointException) as caught:
                dcp.save(state(), storage_writer=storage, planner=planners.save())
            raised[who] = described(caught.value)
            assert not (base / who / ".metadata").exists()
            dcp.save(state(), storage_writer=writer(base / who), planner=planners.save())
            assert (base / who / ".metadata").exists()
    return raised


def load_failing(step: str, ranks: tuple[int, ...], folder: Path) -> dict[str, Any]:
    raised = {}
    for who in ALL:
        with planning(who) as planners:
            storage, loaded = FailingReader(folder, step, ranks), blank(state)
            with pytest.raises(CheckpointException) as caught:
                dcp.load(loaded, storage_reader=storage, planner=planners.load())
            raised[who] = described(caught.value)
            loaded = blank(state)
            dcp.load(loaded, checkpoint_id=folder, planner=planners.load())
            assert identical(held(loaded), held(state()))
    return raised


def assert_all_raised(results: list[dict[str, Any]], ranks: tuple[int, ...]) -> None:
    upstream = results[0]["upstream"]
    assert upstream[0] == "CheckpointException"
    assert tuple(upstream[2]) == ranks
    for result in results:
        for raised in result.values():
            assert raised == upstream


@pytest.fixture(scope="module")
def checkpoint(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    worlds[3].run(save, folder)
    return folder


def save(folder: Path) -> None:
    dcp.save(state(), storage_writer=writer(folder))


@pytest.mark.parametrize(
    ("step", "ranks"),
    [
        *((step, ranks) for step in ON_EACH_RANK_SAVING for ranks in RANKS),
        ("prepare_global_plan", (0,)),
        ("finish", (0,)),
    ],
)
def test_saving(worlds: Worlds, tmp_path: Path, step: str, ranks: tuple[int, ...]) -> None:
    started = time.monotonic()
    assert_all_raised(worlds[3].run(save_failing, step, ranks, tmp_path), ranks)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("step", "ranks"),
    [
        *((step, ranks) for step in ON_EACH_RANK_LOADING for ranks in RANKS),
        ("prepare_global_plan", (0,)),
    ],
)
def test_loading(worlds: Worlds, checkpoint: Path, step: str, ranks: tuple[int, ...]) -> None:
    started = time.monotonic()
    assert_all_raised(worlds[3].run(load_failing, step, ranks, checkpoint), ranks)
    assert time.monotonic() - started < 30
