"""Rows 2 to 5: plans, properties and metadata are upstream objects, and nothing is cached by id."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import pickletools
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, TensorProperties
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

from parity.boxes import row_chunks, tensor_metadata
from parity.comparison import assert_same
from parity.implementations import OURS, UPSTREAM
from parity.samples import SHARDED_TENSORS, WORLD_SIZE
from parity.simulation import save_plans
from parity.state_dicts import fully_sharded
from parity.worlds import dtensor_of, mesh_of, rank_of
from pickled import globals_of
from shardplan.dcp.upstream import originals


def state_dict() -> dict[str, Any]:
    return {"b": torch.zeros(4), "a": torch.zeros(()), "c": 3}


def save_plan() -> SavePlan:
    plan = OURS.default_planner.create_default_local_save_plan(state_dict(), True)
    assert type(plan) is SavePlan
    return plan


def load_plan() -> LoadPlan:
    metadata = Metadata({"w": tensor_metadata((6,), row_chunks(6, 3))})
    plan = OURS.default_planner.create_default_local_load_plan({"w": torch.zeros(6)}, metadata)
    assert type(plan) is LoadPlan
    return plan


def upstream_plan() -> SavePlan:
    return originals.create_default_local_save_plan(state_dict(), True)


def is_lazy(plan: Any) -> bool:
    return plan.items.columns is not None


@pytest.mark.parametrize("make", [save_plan, load_plan])
def test_replace_does_not_materialize(make: Any) -> None:
    """Every storage writer calls it on every plan, on the coordinator."""
    plan = make()
    replaced = dataclasses.replace(plan, storage_data="prefix")
    assert replaced.storage_data == "prefix"
    assert replaced.items is plan.items
    assert is_lazy(plan)


def test_plan_is_an_upstream_plan() -> None:
    plan, upstream = save_plan(), upstream_plan()
    assert [field.name for field in dataclasses.fields(plan)] == [
        field.name for field in dataclasses.fields(upstream)
    ]
    assert plan == upstream
    assert upstream == save_plan()
    assert plan != dataclasses.replace(upstream, items=upstream.items[:1])
    assert repr(save_plan()) == repr(upstream)
    assert_same(dataclasses.asdict(save_plan()), dataclasses.asdict(upstream))
    assert_same(dataclasses.astuple(save_plan()), dataclasses.astuple(upstream))
    for copied in (copy.copy(save_plan()), copy.deepcopy(save_plan())):
        assert copied == upstream
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.items = []  # type: ignore[misc]


@pytest.mark.parametrize("make", [save_plan, load_plan])
def test_plan_pickles(make: Any) -> None:
    assert pickle.loads(pickle.dumps(make())) == make()


def test_pickle_of_a_plan_names_nothing_of_shardplan() -> None:
    """The pickle loads where shardplan is not installed."""
    for made in (save_plan(), load_plan()):
        assert not [
            argument
            for _, argument, _ in pickletools.genops(pickle.dumps(made))
            if isinstance(argument, str) and "shardplan" in argument
        ]


def test_frozen_subclass() -> None:
    @dataclasses.dataclass(frozen=True)
    class TaggedPlan(SavePlan):
        tag: str = ""

    tagged = TaggedPlan(**{**vars(save_plan()), "tag": "mine"})
    replaced = dataclasses.replace(tagged, storage_data=3)
    assert (type(replaced), replaced.tag, len(replaced.items)) == (TaggedPlan, "mine", 3)
    assert replaced.items == upstream_plan().items


def test_load_plan_can_be_assigned() -> None:
    plan = load_plan()
    plan.items = list(plan.items)[:1]
    assert len(plan.items) == 1


def test_properties_are_mutable_and_not_shared() -> None:
    first, second = OURS.default_planner.create_default_local_save_plan(
        {"a": torch.zeros(2), "b": torch.zeros(2)}, True
    ).items
    first.tensor_data.properties.dtype = torch.float16
    assert second.tensor_data.properties.dtype is torch.float32
    assert type(first.tensor_data.properties) is TensorProperties
    assert list(vars(second.tensor_data.properties)) == [
        field.name for field in dataclasses.fields(TensorProperties)
    ]


def test_properties_of_shards_are_not_shared_either() -> None:
    """Upstream creates one for each shard, so shardplan must not share one."""
    with rank_of(0, WORLD_SIZE):
        tensor = SHARDED_TENSORS["several shards a rank"]()
        for plan in (
            originals.create_default_local_save_plan({"w": tensor}, True),
            OURS.default_planner.create_default_local_save_plan({"w": tensor}, True),
        ):
            properties = [item.tensor_data.properties for item in plan.items]
            assert len(properties) > 1
            assert len({id(each) for each in properties}) == len(properties)
            assert tensor.metadata().tensor_properties not in map(id, properties)


def test_metadata_shares_the_first_items_properties() -> None:
    """Upstream shares it too: a planner that changes an item's dtype later changes the metadata."""
    for implementation in (UPSTREAM, OURS):
        planner = implementation.DefaultSavePlanner()
        planner.set_up_planner(state_dict(), None, True)
        plans, metadata = planner.create_global_plan([planner.create_local_plan()])
        assert (
            plans[0].items[0].tensor_data.properties is metadata.state_dict_metadata["b"].properties
        )


def test_metadata_holds_upstream_classes_only() -> None:
    """Its pickle has the same globals as upstream's, so it loads without shardplan."""
    ours = save_plans(OURS.DefaultSavePlanner, fully_sharded, 4, send=False).metadata
    upstream = save_plans(UPSTREAM.DefaultSavePlanner, fully_sharded, 4, send=False).metadata
    for protocol in (2, 4, pickle.HIGHEST_PROTOCOL):
        mine = pickle.dumps(ours, protocol)
        assert globals_of(mine) == globals_of(pickle.dumps(upstream, protocol)) != set()
        assert b"shardplan" not in mine
    assert_same(ours, upstream)
    assert {
        type(saved.chunks)
        for saved in ours.state_dict_metadata.values()
        if hasattr(saved, "chunks")
    } == {list}


def test_metadata_file_loads_without_shardplan(tmp_path: Path) -> None:
    dcp.save(state_dict(), checkpoint_id=tmp_path, planner=OURS.DefaultSavePlanner(), no_dist=True)
    reader = textwrap.dedent(
        """
        import importlib.abc, sys
        class Absent(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name.split(".")[0] == "shardplan":
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Absent())
        import torch, torch.distributed.checkpoint as dcp
        state_dict = {"b": torch.ones(4), "a": torch.ones(()), "c": 0}
        dcp.load(state_dict, checkpoint_id=sys.argv[1], no_dist=True)
        assert state_dict["b"].tolist() == [0, 0, 0, 0] and state_dict["c"] == 3
        assert "shardplan" not in sys.modules
        print("loaded")
        """
    )
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", reader, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.stdout.strip() == "loaded", found.stderr


def test_metadata_accepts_attributes_of_a_caller() -> None:
    """Megatron stores its plans on the metadata."""
    planner = OURS.DefaultSavePlanner()
    planner.set_up_planner(state_dict(), None, True)
    plans, metadata = planner.create_global_plan([planner.create_local_plan()])
    metadata.all_local_plans = plans
    assert pickle.loads(pickle.dumps(metadata)).all_local_plans == plans


def test_size_changed_in_place_between_calls() -> None:
    """A metadata object whose size has changed is planned again."""
    metadata = Metadata({"w": tensor_metadata((6,), row_chunks(6, 3))})
    plan = OURS.default_planner.create_default_local_load_plan
    assert len(plan({"w": torch.zeros(6)}, metadata).items) == 3
    metadata.state_dict_metadata["w"].size = torch.Size((4,))  # type: ignore[union-attr]
    assert len(plan({"w": torch.zeros(4)}, metadata).items) == 2
    with pytest.raises(ValueError, match="Size mismatch"):
        plan({"w": torch.zeros(6)}, metadata)
    metadata.state_dict_metadata["w"].chunks.pop()  # type: ignore[union-attr]
    del metadata.state_dict_metadata["w"].chunks[0]  # type: ignore[union-attr]
    assert len(plan({"w": torch.zeros(4)}, metadata).items) == 1


def test_requires_grad_follows_grad_mode() -> None:
    with rank_of(0, 2):
        dtensor = dtensor_of(
            (4,), mesh_of((2,)), [torch.distributed.tensor.Shard(0)], requires_grad=True
        )
        for grad in (True, False, True):
            with torch.set_grad_enabled(grad):
                ours = OURS.default_planner.create_default_local_save_plan({"w": dtensor}, True)
                upstream = originals.create_default_local_save_plan({"w": dtensor}, True)
            assert_same(ours, upstream)
            assert ours.items[0].tensor_data.properties.requires_grad is grad


def test_items_describe_the_tensors_at_planning_time() -> None:
    """Items are created later, but describe the tensors at the time of planning."""
    tensor = torch.zeros(4)
    entries = {"w": tensor, "config": [1]}
    ours = OURS.default_planner.create_default_local_save_plan(entries, True)
    upstream = originals.create_default_local_save_plan(entries, True)
    tensor.requires_grad_(True)
    tensor.data = torch.zeros(9, dtype=torch.float64)
    entries["more"] = torch.zeros(1)
    assert_same(ours, upstream)


def test_metadata_changed_after_a_load_plan_changes_nothing() -> None:
    metadata = Metadata({"w": tensor_metadata((6,), row_chunks(6, 3))})
    ours = OURS.default_planner.create_default_local_load_plan({"w": torch.zeros(6)}, metadata)
    upstream = originals.create_default_local_load_plan({"w": torch.zeros(6)}, metadata)
    chunks = metadata.state_dict_metadata["w"].chunks  # type: ignore[union-attr]
    chunks[0].offsets = torch.Size((5,))
    chunks.clear()
    assert_same(ours, upstream)


def test_planner_reads_its_attributes_when_needed() -> None:
    """A caller may set state_dict, mappings and metadata on a planner between its steps."""
    for implementation in (UPSTREAM, OURS):
        saver = implementation.DefaultSavePlanner()
        saver.set_up_planner({"a": torch.zeros(2)}, None, True)
        saver.state_dict = {"other": torch.zeros(3)}
        saver.mappings = {"other": ("o", "ther")}
        plan = saver.create_local_plan()
        assert [item.index.fqn for item in plan.items] == ["other"]
        _, metadata = saver.create_global_plan([plan])
        assert metadata.planner_data == {"other": ("o", "ther")}
        loader = implementation.DefaultLoadPlanner(flatten_state_dict=False)
        loader.set_up_planner({"a": torch.zeros(2)}, Metadata({}), True)
        loader.state_dict = {"other": torch.zeros(3)}
        loader.metadata = metadata
        assert [item.dest_index.fqn for item in loader.create_local_plan().items] == ["other"]
