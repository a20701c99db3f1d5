"""A plan that is damaged in transit: every rank raises at once, as for a planning error."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan
from torch.distributed.tensor import Shard

from shardplan import build_info
from shardplan.dcp import wire

from .checkpoints import assert_same_checkpoint, identical, writer
from .planning import described, planning
from .state_dicts import StateDict, blank, held, mesh, numbers, spread
from .world import Worlds

RELEASE = build_info()["shardplan"]
WHO = ("ours", "registered")
# Seconds until every rank raises. Planning takes a few hundredths, a waiting rank two minutes.
SOON = 5.0


def cut(data: bytes) -> bytes:
    return data[:-1]


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 8]) + data[at + 1 :]


def of_another_version(data: bytes) -> bytes:
    return data[:4] + bytes([data[4] + 1, 5]) + b"9.8.7" + data[6 + data[5] :]


BREAKS: dict[Callable[[bytes], bytes], tuple[str, ...]] = {
    cut: ("has a table of",),
    flipped: ("is corrupted: its checksum does not match",),
    of_another_version: (
        f"written by shardplan 9.8.7 (wire version 2) and is read by shardplan "
        f"{RELEASE} (wire version 1)",
    ),
}


def state() -> StateDict:
    return {"w": spread(numbers(7, 2), mesh(4), Shard(0)), "same": numbers(3), "n": 3}


@contextlib.contextmanager
def broken(plan: type, break_it: Callable[[bytes], bytes], at: int, nth: int) -> Iterator[None]:
    """Damages the ``nth`` plan that rank ``at`` sends."""
    pack, sent = wire._PACKED[plan], 0

    def breaking(obj: Any) -> Any:
        nonlocal sent
        sent += 1
        function, arguments = pack(obj)
        assert isinstance(arguments[0], bytes)
        if sent - 1 == nth:
            arguments = (break_it(arguments[0]), *arguments[1:])
        return function, arguments

    if dist.get_rank() != at:
        yield
        return
    wire._PACKED[plan] = breaking
    try:
        yield
    finally:
        wire._PACKED[plan] = pack
    assert sent > nth, "nothing was broken"


class Raising(DefaultSavePlanner):
    """Raises on one rank in one of its hooks."""

    def __init__(self, hook: str, at: int) -> None:
        super().__init__()
        self.hook, self.at = hook, at

    def reach(self, hook: str) -> None:
        if hook == self.hook and dist.get_rank() == self.at:
            raise ValueError(hook)

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        self.reach("create_global_plan")
        return super().create_global_plan(all_plans)

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        self.reach("finish_plan")
        return super().finish_plan(new_plan)


def raised_by(action: Callable[[], object]) -> tuple[Any, float]:
    dist.barrier()
    started = time.monotonic()
    with pytest.raises(dcp.api.CheckpointException) as caught:
        action()
    return described(caught.value), time.monotonic() - started


def save_broken(
    who: str, break_it: Callable[[bytes], bytes], at: int, nth: int, base: Path
) -> tuple[Any, float]:
    with planning(who) as planners:
        with broken(SavePlan, break_it, at, nth):
            raised = raised_by(
                lambda: dcp.save(
                    state(), storage_writer=writer(base / "broken"), planner=planners.save()
                )
            )
        # The ranks are in step, and the next plan is sent undamaged.
        dcp.save(state(), storage_writer=writer(base / "after"), planner=planners.save())
    return raised


def save_raising(hook: str, at: int, base: Path) -> Any:
    planner = Raising(hook, at)
    raised, _ = raised_by(
        lambda: dcp.save(state(), storage_writer=writer(base / "raising"), planner=planner)
    )
    dcp.save(state(), storage_writer=writer(base / "upstream"))
    return raised


def load_broken(
    who: str, break_it: Callable[[bytes], bytes], at: int, nth: int, folder: Path
) -> tuple[Any, float]:
    with planning(who) as planners:
        with broken(LoadPlan, break_it, at, nth):
            raised = raised_by(
                lambda: dcp.load(blank(state), checkpoint_id=folder, planner=planners.load())
            )
        loaded = blank(state)
        dcp.load(loaded, checkpoint_id=folder, planner=planners.load())
        assert identical(held(loaded), held(state()))
    return raised


def save_good(folder: Path) -> None:
    dcp.save(state(), storage_writer=writer(folder))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_all_raised(results: list[Any], failing: int, words: tuple[str, ...]) -> None:
    """Every rank raises the same ValueError, soon: that of the rank that read the damaged plan."""
    for raised, seconds in results:
        assert raised == results[0][0]
        assert seconds < SOON
    kind, _, failures = results[0][0]
    assert kind == "CheckpointException"
    assert list(failures) == [failing]
    error, message = failures[failing]
    assert error == "ValueError"
    for word in ("plan from another rank cannot be read: it ", *words):
        assert word in message


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("break_it", BREAKS)
@pytest.mark.parametrize("at", [0, 2])
def test_gathered_save_plan(
    worlds: Worlds, tmp_path: Path, who: str, break_it: Callable[[bytes], bytes], at: int
) -> None:
    """The coordinator cannot read one rank's plan, and its error names the rank."""
    results = worlds[4].run(save_broken, who, break_it, at, 0, tmp_path, timeout=30)
    assert_all_raised(results, 0, (f"rank {at}: a save plan", *BREAKS[break_it]))
    worlds[4].run(save_raising, "create_global_plan", 0, tmp_path)
    assert files(tmp_path / "broken") == files(tmp_path / "raising")
    assert_same_checkpoint(tmp_path / "after", tmp_path / "upstream")


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("break_it", BREAKS)
@pytest.mark.parametrize("to", [0, 3])
def test_scattered_save_plan(
    worlds: Worlds, tmp_path: Path, who: str, break_it: Callable[[bytes], bytes], to: int
) -> None:
    """One rank cannot read its final plan; the others have written theirs."""
    # The first plan that the coordinator sends is its own local plan.
    results = worlds[4].run(save_broken, who, break_it, 0, 1 + to, tmp_path, timeout=30)
    assert_all_raised(results, to, ("a save plan", *BREAKS[break_it]))
    worlds[4].run(save_raising, "finish_plan", to, tmp_path)
    assert files(tmp_path / "broken") == files(tmp_path / "raising")
    assert ".metadata" not in files(tmp_path / "broken")
    assert_same_checkpoint(tmp_path / "after", tmp_path / "upstream")


@pytest.fixture(scope="module")
def checkpoint(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    worlds[4].run(save_good, folder)
    return folder


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("break_it", BREAKS)
@pytest.mark.parametrize(
    ("at", "nth", "failing"),
    [(0, 0, 0), (2, 0, 2), (0, 1, 0), (0, 4, 3)],
    ids=["gathered from 0", "gathered from 2", "scattered to 0", "scattered to 3"],
)
def test_load_plan(
    worlds: Worlds,
    checkpoint: Path,
    who: str,
    break_it: Callable[[bytes], bytes],
    at: int,
    nth: int,
    failing: int,
) -> None:
    """The coordinator forwards load plans unread, so the rank itself gets the damaged plan."""
    results = worlds[4].run(load_broken, who, break_it, at, nth, checkpoint, timeout=30)
    assert_all_raised(results, failing, ("a load plan", *BREAKS[break_it]))


def send_other_arguments(who: str, kind: str, at: int, folder: Path) -> tuple[Any, float]:
    """A future shardplan may send other arguments for the function that unpickles."""
    plan = {"save": SavePlan, "load": LoadPlan}[kind]
    pack = wire._PACKED[plan]
    with planning(who) as planners:
        if dist.get_rank() == at:
            wire._PACKED[plan] = lambda obj: (pack(obj)[0], (1, 2, 3, 4))
        try:
            if kind == "save":
                to = writer(folder / "broken")
                return raised_by(
                    lambda: dcp.save(state(), storage_writer=to, planner=planners.save())
                )
            return raised_by(
                lambda: dcp.load(blank(state), checkpoint_id=folder, planner=planners.load())
            )
        finally:
            wire._PACKED[plan] = pack


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("kind", ["save", "load"])
def test_other_arguments(
    worlds: Worlds, checkpoint: Path, tmp_path: Path, who: str, kind: str
) -> None:
    folder = tmp_path if kind == "save" else checkpoint
    results = worlds[4].run(send_other_arguments, who, kind, 2, folder, timeout=30)
    for raised, seconds in results:
        assert raised == results[0][0]
        assert seconds < SOON
    failing = 0 if kind == "save" else 2
    _, _, failures = results[0][0]
    assert list(failures) == [failing]
    assert failures[failing][0] == "ValueError"
    assert "sent by another version of shardplan" in failures[failing][1]
    if kind == "save":
        assert failures[0][1].startswith("rank 2: ")


@pytest.mark.parametrize("who", ["upstream", "ours"])
def test_broken_plan_that_an_upstream_planner_reads(
    worlds: Worlds, tmp_path: Path, who: str
) -> None:
    """Only the sender uses shardplan's planner, or only the coordinator does not."""
    results = worlds[4].run(save_broken_to_upstream, who, tmp_path, timeout=30)
    for raised, seconds in results:
        assert raised == results[0][0]
        assert seconds < SOON
    _, _, failures = results[0][0]
    assert list(failures) == [0]
    assert "a save plan from another rank cannot be read: it has a table of" in failures[0][1]


def save_broken_to_upstream(others: str, base: Path) -> tuple[Any, float]:
    wire.uninstall()
    rank = dist.get_rank()
    try:
        with planning({0: "upstream", 2: "ours"}.get(rank, others)) as planners:
            to = writer(base / "broken")
            with broken(SavePlan, cut, 2, 0):
                return raised_by(
                    lambda: dcp.save(state(), storage_writer=to, planner=planners.save())
                )
    finally:
        wire.uninstall()
