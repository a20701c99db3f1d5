"""If a caller replaces a name that upstream looks up at run time, the effect is upstream's."""

from __future__ import annotations

import contextlib
import enum
import pickle
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import filesystem, planner_helpers
from torch.distributed.checkpoint import metadata as metadata_module
from torch.distributed.tensor import Shard

import shardplan
from parity.implementations import OURS, UPSTREAM, Implementation
from parity.worlds import dtensor_of, mesh_of, rank_of, sharded_tensor_of
from shardplan.dcp import fallbacks
from shardplan.dcp.upstream import replaced_names

TABLES = {
    "save": replaced_names._SAVE,
    "load": replaced_names._LOAD,
    "box": replaced_names._BOX,
    "global": replaced_names._GLOBAL,
    "validation": replaced_names._VALIDATION,
}
NAMES = sorted(
    {
        (f"{holder.__name__}.{name}", id(holder)): (holder, name)
        for table in TABLES.values()
        for holder, names in table
        for name in names
    }.items(),
    key=lambda pair: pair[0][0],
)


def recorded(function: Any, calls: Counter[str], name: str) -> Any:
    """Returns a function that does the same and records its call."""
    is_static = isinstance(function, staticmethod)
    inner = function.__func__ if is_static else function

    def replaced(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return inner(*args, **kwargs)

    return staticmethod(replaced) if is_static else replaced


def replacement(value: Any, calls: Counter[str], name: str) -> Any:
    """Returns what a caller could replace a value by: a subclass, a wrapper, a namespace."""
    if name == "__post_init__":
        return recorded(lambda self: None, calls, name)
    if isinstance(value, types.ModuleType):
        return types.SimpleNamespace(**vars(value))
    if isinstance(value, enum.EnumMeta):
        return types.SimpleNamespace(**value.__members__)
    if isinstance(value, type):
        return type(f"Replaced{value.__name__}", (value,), {"mine": True})
    return recorded(value, calls, name)


def entries() -> dict[str, Any]:
    mesh = mesh_of((2,))
    return {
        "tensor": torch.arange(6.0).reshape(2, 3),
        "dtensor": dtensor_of((4, 2), mesh, [Shard(0)]),
        "sharded": sharded_tensor_of((4,), [((0,), (2,), 0), ((2,), (2,), 1)]),
        "number": 3,
    }


def description_of(value: Any) -> str:
    """Describes all public attributes of an object, with the classes of all its parts."""
    if isinstance(value, dict):
        return (
            f"{type(value).__name__}{{{', '.join(description_of(pair) for pair in value.items())}}}"
        )
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return f"[{', '.join(map(description_of, value))}]"
    if hasattr(value, "__dict__") and not isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}({description_of(vars(value))})"
    return f"{type(value).__qualname__}:{value!r}"


def outcome(step: Callable[[], Any]) -> tuple[Any, str]:
    """Returns the result of a step, if any, and a description of it or of its error."""
    try:
        value = step()
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    return value, description_of(value)


def plan_everything(implementation: Implementation, but: str = "") -> list[str]:
    """Describes the result of each planning step.

    but: name of a helper that is not called directly
    """
    module = implementation.default_planner
    found = []

    def step(run: Callable[[], Any]) -> Any:
        value, description = outcome(run)
        found.append(description)
        return value

    state_dict = entries()
    plan = step(lambda: module.create_default_local_save_plan(state_dict, True))
    if plan is None:
        return found
    plans = step(lambda: module.dedup_save_plans([plan, plan]))
    made = step(lambda: module.create_default_global_save_plan(plans or [plan]))
    if made is not None:
        step(lambda: module._validate_global_plan(*made))
        step(lambda: module.create_default_local_load_plan(state_dict, made[1]))
    helpers = implementation.planner_helpers
    if but != "_create_chunk_list":
        step(lambda: helpers._create_chunk_list(state_dict["dtensor"]))
    step(lambda: helpers._create_write_items("t", state_dict["tensor"]))
    return found


@pytest.mark.parametrize(
    ("holder", "name"), [one for _, one in NAMES], ids=[key[0] for key, _ in NAMES]
)
def test_a_replaced_name_has_upstreams_effect(
    monkeypatch: pytest.MonkeyPatch, holder: Any, name: str
) -> None:
    with rank_of(0, 2):
        fallbacks.clear()
        unreplaced = plan_everything(OURS)
        # There are none if shardplan knows the error messages of this torch.
        usual = shardplan.fallbacks()
        assert unreplaced == plan_everything(UPSTREAM)
        calls: Counter[str] = Counter()
        own = vars(holder).get(name)
        replaced = replacement(own, calls, name)
        if own is None and name != "__post_init__":
            pytest.skip(f"the installed torch has no {holder.__name__}.{name} of its own")
        monkeypatch.setattr(holder, name, replaced, raising=False)
        upstream = plan_everything(UPSTREAM, name)
        called = dict(calls)
        calls.clear()
        fallbacks.clear()
        assert plan_everything(OURS, name) == upstream
        assert dict(calls) == called
        reasons = [reason for reason in shardplan.fallbacks() if "was replaced" in reason]
        assert reasons and all(reason.endswith(f".{name} was replaced") for reason in reasons)
        monkeypatch.undo()
        fallbacks.clear()
        assert plan_everything(OURS) == unreplaced
        assert shardplan.fallbacks() == usual
        assert all("has other error messages" in reason for reason in usual)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    dcp.save({"a": torch.arange(4.0), "n": 3}, checkpoint_id=tmp_path / "saved", no_dist=True)
    return tmp_path / "saved"


WAYS = ["ours", "registered"]


@contextlib.contextmanager
def storage(way: str, path: Path) -> Iterator[dict[str, Any]]:
    """Returns arguments with which dcp.save and dcp.load use shardplan's storage."""
    if way == "registered":
        with shardplan.registered():
            yield {"checkpoint_id": path}
    else:
        yield {
            "storage_writer": shardplan.FileSystemWriter(path),
            "storage_reader": shardplan.FileSystemReader(path),
        }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_replaced_method_of_storage_is_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str, before: bool
) -> None:
    calls: Counter[str] = Counter()

    def replace() -> None:
        for cls, names in (
            (filesystem.FileSystemWriter, ("finish", "write_data", "storage_meta")),
            (filesystem.FileSystemWriter, ("prepare_global_plan",)),
            (filesystem.FileSystemReader, ("read_metadata",)),
        ):
            for name in names:
                monkeypatch.setattr(cls, name, recorded(getattr(cls, name), calls, name))

    if before:
        replace()
    with storage(way, tmp_path / "c") as arguments:
        if not before:
            replace()
        saving = {key: one for key, one in arguments.items() if key != "storage_reader"}
        dcp.save({"a": torch.arange(4.0), "n": 3}, no_dist=True, **saving)
        loading = {key: one for key, one in arguments.items() if key != "storage_writer"}
        loaded = {"a": torch.zeros(4), "n": 0}
        dcp.load(loaded, no_dist=True, **loading)
    assert torch.equal(loaded["a"], torch.arange(4.0)) and loaded["n"] == 3
    # finish calls storage_meta a second time.
    assert calls.pop("storage_meta") >= 1
    assert calls == {"finish": 1, "write_data": 1, "prepare_global_plan": 1, "read_metadata": 1}


@pytest.mark.parametrize("way", WAYS)
def test_a_replaced_pickle_is_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    calls: Counter[str] = Counter()
    monkeypatch.setattr(pickle, "dump", recorded(pickle.dump, calls, "dump"))
    monkeypatch.setattr(pickle, "load", recorded(pickle.load, calls, "load"))
    with storage(way, tmp_path / "c") as arguments:
        reader = arguments.pop("storage_reader", None)
        dcp.save({"a": torch.arange(4.0)}, no_dist=True, **arguments)
        assert calls["dump"] == 1
        reader = reader or dcp.FileSystemReader(tmp_path / "c")
        assert list(reader.read_metadata().state_dict_metadata) == ["a"]
        assert calls["load"] == 1


def test_storage_is_set_up_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A writer that dcp.save creates is reset as often as upstream resets it."""

    def counts() -> dict[str, int]:
        calls: Counter[str] = Counter()
        with monkeypatch.context() as patch:
            patch.setattr(
                filesystem, "_generate_uuid", recorded(filesystem._generate_uuid, calls, "uuid")
            )
            for cls in (filesystem._FileSystemWriter, filesystem.FileSystemReader):
                patch.setattr(cls, "reset", recorded(cls.reset, calls, f"{cls.__name__}.reset"))
            dcp.save({"a": torch.ones(2)}, checkpoint_id=tmp_path / "c", no_dist=True)
            dcp.load({"a": torch.ones(2)}, checkpoint_id=tmp_path / "c", no_dist=True)
        return dict(calls)

    upstream = counts()
    with shardplan.registered():
        assert counts() == upstream
    assert upstream["FileSystemReader.reset"] == 1


def test_a_callers_writer_is_native_under_register(tmp_path: Path) -> None:
    """Accelerate creates upstream's classes itself."""
    with shardplan.registered():
        fallbacks.clear()
        dcp.save(
            {"a": torch.ones(2)},
            storage_writer=dcp.FileSystemWriter(tmp_path / "c"),
            no_dist=True,
        )
        metadata = dcp.FileSystemReader(tmp_path / "c").read_metadata()
        assert type(metadata.storage_data).__name__ == "StorageData"
        assert not shardplan.fallbacks()


def test_a_subclass_that_overrides_finish_gets_exact_lists(tmp_path: Path) -> None:
    seen = []

    class Own(dcp.FileSystemWriter):
        def finish(self, metadata: Any, results: Any) -> None:
            seen.extend(type(one.chunks) for one in metadata.state_dict_metadata.values())
            super().finish(metadata, results)

    with shardplan.registered():
        dcp.save({"a": torch.ones(2)}, storage_writer=Own(tmp_path / "c"), no_dist=True)
    assert seen == [list]


def test_a_class_that_is_replaced_in_its_module() -> None:
    """PyTorch's test_compatibility does this: metadata of an older torch without a field."""
    made = []

    class Older(metadata_module.TensorProperties):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append(kwargs)
            super().__init__(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata_module, "TensorProperties", Older)
        plan = OURS.default_planner.create_default_local_save_plan({"a": torch.ones(2)}, True)
        assert type(plan.items[0].tensor_data.properties) is Older
    assert len(made) == 1


def test_replaced_helper_of_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(fqn: str, value: Any) -> Any:
        return planner_helpers.WriteItem(
            planner_helpers.MetadataIndex(f"mine.{fqn}"), planner_helpers.WriteItemType.BYTE_IO
        )

    monkeypatch.setattr(planner_helpers, "_create_write_item_for_tensor", mine)
    items = OURS.planner_helpers._create_write_items("a", torch.ones(2))
    assert [item.index.fqn for item in items] == ["mine.a"]
