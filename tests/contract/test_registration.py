"""register() and unregister() replace functions, never classes, and restore them."""

from __future__ import annotations

import copyreg
import inspect
import logging
import operator
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import default_planner, planner_helpers
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

import shardplan
from parity.comparison import assert_same
from shardplan.dcp.registration import registry
from shardplan.dcp.twins import table
from shardplan.dcp.upstream import originals


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    yield
    shardplan.unregister()


def upstream_modules() -> list[types.ModuleType]:
    return [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith("torch.distributed.checkpoint") and type(module) is types.ModuleType
    ]


def contents() -> dict[str, int]:
    """Maps every name in DCP's modules and in their classes to the identity of its value."""
    held = {}
    for module in upstream_modules():
        for name, value in vars(module).items():
            held[f"{module.__name__}.{name}"] = id(value)
            if inspect.isclass(value) and value.__module__ == module.__name__:
                for attribute, inside in vars(value).items():
                    held[f"{module.__name__}.{value.__qualname__}.{attribute}"] = id(inside)
    return held


def test_every_name_is_restored() -> None:
    shardplan.unregister()  # A planner of another test has installed the pickler.
    before = contents()
    done = shardplan.register()
    assert done.replaced
    changed = {name for name, held in contents().items() if before.get(name) != held}
    # copyreg and copy.copy keep functions for these classes, so that pickles name no lazy class.
    copied = {
        f"{cls.__module__}.{cls.__qualname__}.__copy__"
        for cls in (SavePlan, LoadPlan, Metadata, TensorStorageMetadata)
    }
    # Other tests are modules that have imported upstream's functions.
    in_upstream = {name for name in done.replaced if name.startswith(dcp.__name__)}
    assert changed == in_upstream | copied
    assert {SavePlan, LoadPlan, Metadata, TensorStorageMetadata} <= copyreg.dispatch_table.keys()
    shardplan.unregister()
    assert contents() == before
    assert not copyreg.dispatch_table.keys() & {SavePlan, LoadPlan, Metadata}


def test_the_list_of_names_is_logged_once_a_process(caplog: pytest.LogCaptureFixture) -> None:
    """``async_save`` in a process registers at each save."""
    caplog.set_level(logging.DEBUG, logger="shardplan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_logged", ())
        for _ in range(3):
            shardplan.register()
    levels = [one.levelno for one in caplog.records if "replaced" in one.getMessage()]
    assert levels == [logging.INFO, logging.DEBUG, logging.DEBUG]


def test_every_twin_is_installed() -> None:
    shardplan.register()
    for upstream, ours in table.twins().items():
        found = operator.attrgetter(upstream.__qualname__)(sys.modules[upstream.__module__])
        assert found is ours
    assert default_planner._create_read_items is planner_helpers._create_read_items
    assert default_planner.create_default_local_save_plan.__module__.startswith("shardplan")


def test_class_objects_are_kept() -> None:
    """Existing planners still pickle, and subclasses are still subclasses."""
    save, load = dcp.DefaultSavePlanner, dcp.DefaultLoadPlanner
    planner = save()
    with shardplan.registered():
        assert default_planner.DefaultSavePlanner is save is dcp.DefaultSavePlanner
        assert default_planner.DefaultLoadPlanner is load is dcp.DefaultLoadPlanner
        assert type(pickle.loads(pickle.dumps(planner))) is save
        assert issubclass(shardplan.DefaultSavePlanner, dcp.DefaultSavePlanner)


def test_registering_twice_is_the_same_as_once() -> None:
    before = contents()
    first = shardplan.register()
    once = contents()
    assert shardplan.register() == first
    assert contents() == once
    shardplan.unregister()
    assert contents() == before
    shardplan.unregister()
    assert contents() == before


def test_nested_contexts() -> None:
    before = contents()
    with shardplan.registered() as outer:
        inside = contents()
        with shardplan.registered() as inner:
            assert inner == outer
        assert contents() == inside
    assert contents() == before


def test_context_inside_a_registration_leaves_it() -> None:
    shardplan.register()
    inside = contents()
    with shardplan.registered():
        pass
    assert contents() == inside


def test_context_restores_after_an_error() -> None:
    before = contents()
    with pytest.raises(KeyError), shardplan.registered():
        raise KeyError
    assert contents() == before


def test_callers_function_is_left_alone_on_the_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(*args: Any) -> list[str]:
        return []

    monkeypatch.setattr(default_planner, "_validate_global_plan", mine)
    done = shardplan.register()
    assert default_planner._validate_global_plan is mine
    assert "torch.distributed.checkpoint.default_planner._validate_global_plan" not in done.replaced
    shardplan.unregister()
    assert default_planner._validate_global_plan is mine


def test_callers_function_is_left_alone_on_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(*args: Any) -> list[str]:
        return []

    # monkeypatch restores the value that it finds first, which is the upstream function.
    monkeypatch.setattr(
        default_planner, "_validate_global_plan", default_planner._validate_global_plan
    )
    shardplan.register()
    default_planner._validate_global_plan = mine
    shardplan.unregister()
    assert default_planner._validate_global_plan is mine


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of a caller, which was imported before ``register()``."""
    module = types.ModuleType("somebodys_trainer")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    # An earlier test may have logged the names.
    monkeypatch.setattr(registry, "_logged", ())
    monkeypatch.setattr(registry, "_logged_unreached", set())
    return module


def test_names_imported_before_are_replaced_and_restored(trainer: Any) -> None:
    """As by ``from ...planner_helpers import _create_write_items``."""
    trainer._create_write_items = originals.create_write_items
    done = shardplan.register()
    assert "somebodys_trainer._create_write_items" in done.replaced
    assert trainer._create_write_items is planner_helpers._create_write_items
    assert trainer._create_write_items is not originals.create_write_items
    shardplan.unregister()
    assert trainer._create_write_items is originals.create_write_items


def test_a_name_that_the_caller_replaced_since_is_left_alone(trainer: Any) -> None:
    trainer._create_write_items = originals.create_write_items
    shardplan.register()
    trainer._create_write_items = unhashable = [1]
    shardplan.unregister()
    assert trainer._create_write_items is unhashable


def test_a_twin_that_a_caller_imported_from_shardplan_is_left_alone(trainer: Any) -> None:
    ours = shardplan.planner_helpers._create_write_items
    trainer._create_write_items = ours
    shardplan.register()
    shardplan.unregister()
    assert trainer._create_write_items is ours


def test_names_that_are_not_reached_are_logged_once(
    caplog: pytest.LogCaptureFixture, trainer: Any
) -> None:
    trainer.plan_save = originals.create_default_local_save_plan
    with caplog.at_level(logging.INFO, logger="shardplan"):
        done = shardplan.register()
        shardplan.register()
    assert "somebodys_trainer.plan_save" in done.unreached
    assert trainer.plan_save is originals.create_default_local_save_plan
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert sum("somebodys_trainer.plan_save" in message for message in warnings) == 1
    assert "shardplan run" in warnings[0]
    infos = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert any("default_planner.create_default_local_save_plan" in m for m in infos)


def test_names_that_are_not_reached_are_logged_on_rank_0(
    caplog: pytest.LogCaptureFixture, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.plan_save = originals.create_default_local_save_plan
    monkeypatch.setenv("RANK", "3")  # as torchrun does
    shardplan.register()
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]


def test_module_with_two_names_is_logged_once() -> None:
    """multiprocessing gives the main module a second name."""
    theirs = types.ModuleType("somebodys_trainer")
    theirs.plan_save = originals.create_default_local_save_plan  # type: ignore[attr-defined]
    sys.modules[theirs.__name__] = sys.modules["another_name"] = theirs
    try:
        assert shardplan.register().unreached.count("somebodys_trainer.plan_save") == 1
    finally:
        del sys.modules[theirs.__name__], sys.modules["another_name"]


def test_second_call_reaches_modules_loaded_in_between() -> None:
    first = shardplan.register()
    late = types.ModuleType("torch.distributed.checkpoint.loaded_late")
    late.create = originals.create_default_local_save_plan  # type: ignore[attr-defined]
    sys.modules[late.__name__] = late
    try:
        second = shardplan.register()
        name = f"{late.__name__}.create"
        assert name not in first.replaced
        assert name in second.replaced
        shardplan.unregister()
        assert late.create is originals.create_default_local_save_plan
    finally:
        del sys.modules[late.__name__]


def test_replacements_can_be_inspected() -> None:
    """DCP inspects the signatures of functions that it calls; replacements are plain functions."""
    for upstream, ours in table.twins().items():
        assert inspect.isfunction(ours)
        assert list(inspect.signature(ours).parameters) == list(
            inspect.signature(upstream).parameters
        )
        assert ours.__name__ == upstream.__name__


def test_upstream_planners_plan_natively(tmp_path: Path) -> None:
    """No planner, an upstream planner and a subclass of it all plan natively."""

    class Theirs(dcp.DefaultSavePlanner):
        pass

    saved = {"w": torch.arange(6.0), "config": {"depth": 2}}
    metadata = []
    for index, planner in enumerate((None, dcp.DefaultSavePlanner(), Theirs())):
        dcp.save(
            dict(saved), checkpoint_id=tmp_path / f"upstream{index}", planner=planner, no_dist=True
        )
        with shardplan.registered():
            planner = None if planner is None else type(planner)()
            path = tmp_path / f"ours{index}"
            dcp.save(dict(saved), checkpoint_id=path, planner=planner, no_dist=True)
            if planner is not None:
                # The items of its plans are lazy.
                local = planner.create_local_plan()
                assert type(local.items).__module__.startswith("shardplan")
            loaded = {"w": torch.zeros(6), "config": {"depth": 0}}
            dcp.load(loaded, checkpoint_id=path, no_dist=True)
        assert torch.equal(loaded["w"], saved["w"])  # type: ignore[arg-type]
        assert loaded["config"] == saved["config"]
        metadata.append(
            [
                pickle.loads((tmp_path / f"{kind}{index}/.metadata").read_bytes())
                for kind in ("ours", "upstream")
            ]
        )
    for ours, upstream in metadata:
        assert_same(ours.state_dict_metadata, upstream.state_dict_metadata)
        assert_same(ours.planner_data, upstream.planner_data)


def test_format_conversion_runs_while_registered(tmp_path: Path) -> None:
    """format_utils imports planner classes and functions itself."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save, torch_save_to_dcp

    state_dict = {"model": {"w": torch.arange(6.0)}, "step": 3}
    torch.save(state_dict, tmp_path / "plain.pt")
    with shardplan.registered():
        torch_save_to_dcp(tmp_path / "plain.pt", tmp_path / "dcp")
        dcp_to_torch_save(tmp_path / "dcp", tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=False)
    assert torch.equal(back["model"]["w"], state_dict["model"]["w"])  # type: ignore[index]
    assert back["step"] == 3
