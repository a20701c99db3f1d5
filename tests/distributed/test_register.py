"""``register()`` in a real world: saves and loads run on shardplan until ``unregister()``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.tensor import Shard

import shardplan

from .checkpoints import assert_same_checkpoint, identical
from .state_dicts import StateDict, blank, held, mesh, numbers, spread
from .world import Worlds

NATIVE = "shardplan.dcp.lazy.items"
UPSTREAM = "builtins"


class SavesUnderOtherNames(DefaultSavePlanner):
    """A subclass of the upstream planner, as a user writes it before shardplan is imported."""

    def set_up_planner(self, state_dict: StateDict, *args: Any, **kwargs: Any) -> None:
        super().set_up_planner({f"x.{k}": v for k, v in state_dict.items()}, *args, **kwargs)


class LoadsOtherNames(DefaultLoadPlanner):
    def set_up_planner(self, state_dict: StateDict, *args: Any, **kwargs: Any) -> None:
        self.asked_for = state_dict
        super().set_up_planner({f"x.{k}": v for k, v in state_dict.items()}, *args, **kwargs)


PLANNERS: dict[str, tuple[Any, Any]] = {
    "none": (lambda: None, lambda: None),
    "upstream": (DefaultSavePlanner, DefaultLoadPlanner),
    "subclass": (SavesUnderOtherNames, LoadsOtherNames),
}


def state() -> StateDict:
    return {"w": spread(numbers(7, 2), mesh(2), Shard(0)), "same": numbers(3)}


class Seeing:
    """A mixin of writers and readers, which keeps the module of a plan's list."""

    seen = ""

    def prepare_local_plan(self, plan: Any) -> Any:
        self.seen = type(plan.items).__module__
        return super().prepare_local_plan(plan)  # type: ignore[misc]


class SeeingWriter(Seeing, dcp.FileSystemWriter):
    pass


class SeeingReader(Seeing, dcp.FileSystemReader):
    pass


def save_and_load(planners: str, folder: Path) -> tuple[str, str, bool]:
    """Returns the types of the plans' lists, and whether all values were loaded."""
    save_planner, load_planner = PLANNERS[planners]
    writer, reader = SeeingWriter(folder, sync_files=False), SeeingReader(folder)
    dcp.save(state(), storage_writer=writer, planner=save_planner())
    loaded = blank(state)
    dcp.load(loaded, storage_reader=reader, planner=load_planner())
    return writer.seen, reader.seen, identical(held(loaded), held(state()))


def before_during_after(planners: str, base: Path) -> list[tuple[str, str, bool]]:
    before = save_and_load(planners, base / "before")
    shardplan.register()
    shardplan.register()
    try:
        during = save_and_load(planners, base / "during")
    finally:
        shardplan.unregister()
    after = save_and_load(planners, base / "after")
    with shardplan.registered():
        again = save_and_load(planners, base / "again")
    return [before, during, after, again]


@pytest.mark.parametrize("planners", PLANNERS)
def test_saves_and_loads_run_on_shardplan_while_registered(
    worlds: Worlds, tmp_path: Path, planners: str
) -> None:
    upstream, ours = (UPSTREAM, UPSTREAM, True), (NATIVE, NATIVE, True)
    for rank in worlds[2].run(before_during_after, planners, tmp_path):
        assert rank == [upstream, ours, upstream, ours]
    for when in ("during", "after", "again"):
        assert_same_checkpoint(tmp_path / when, tmp_path / "before")


def registered_on_one(rank: int, folder: Path) -> tuple[str, str, bool]:
    if dist.get_rank() == rank:
        with shardplan.registered():
            return save_and_load("none", folder)
    return save_and_load("none", folder)


@pytest.mark.parametrize("rank", [0, 1])
def test_registered_on_one_rank_only(worlds: Worlds, tmp_path: Path, rank: int) -> None:
    seen = worlds[2].run(registered_on_one, rank, tmp_path / "one")
    assert seen[rank] == (NATIVE, NATIVE, True)
    assert seen[1 - rank] == (UPSTREAM, UPSTREAM, True)
    worlds[2].run(save_and_load, "none", tmp_path / "upstream")
    assert_same_checkpoint(tmp_path / "one", tmp_path / "upstream")


def names_in_torch() -> dict[str, int]:
    """Every function in torch.distributed.checkpoint, of its modules and their classes, by id."""
    found = {}
    for module, contents in list(sys.modules.items()):
        if not module.startswith("torch.distributed.checkpoint"):
            continue
        for name, value in list(vars(contents).items()):
            found[f"{module}.{name}"] = id(value)
            if isinstance(value, type) and value.__module__ == module:
                methods = {f"{module}.{name}.{m}": id(v) for m, v in vars(value).items()}
                found.update(methods)
    return found


def changes() -> tuple[tuple[str, ...], set[str], set[str]]:
    before = names_in_torch()
    done = shardplan.register()
    during = names_in_torch()
    shardplan.unregister()
    after = names_in_torch()
    changed = {name for name in before if during[name] != before[name]}
    return done.replaced, changed, {name for name in before if after[name] != before[name]}


def test_register_returns_the_replaced_names_and_unregister_restores_them(
    worlds: Worlds,
) -> None:
    for replaced, changed, left in worlds[2].run(changes):
        assert "torch.distributed.checkpoint.planner_helpers._create_chunk_list" in replaced
        assert changed == {name for name in replaced if name.startswith(dcp.__name__)}
        assert left == set()
