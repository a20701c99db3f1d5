"""Nested state dicts: flattening, keys of older checkpoints, partial loads, rebuilt state dicts."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import _version
from torch.distributed.checkpoint._nested_dict import flatten_state_dict, unflatten_state_dict
from torch.distributed.checkpoint.metadata import Metadata

from parity.comparison import Raised, answer, assert_same
from parity.implementations import NAMES, UPSTREAM, Implementation, chosen
from parity.state_dicts import fully_sharded
from parity.worlds import rank_of

NOT_UPSTREAM = [name for name in NAMES if name != "upstream"]


def nested() -> dict[str, Any]:
    return {
        "a": {"b": {"c": torch.zeros(2)}, "empty": {}, "options": {"x": 1}, "values": [1, 2, 3]},
        "list": [torch.zeros(1), {"deep": torch.zeros(3)}, [torch.zeros(2), 5]],
        "numbers": [1, [2, 3]],
        "tuple": (torch.zeros(2), 3),
        "ordered": collections.OrderedDict(first=torch.zeros(1), second="text"),
        7: {8: torch.zeros(2)},
        "text": "text",
    }


def both_plans(implementation: Implementation, make: Any, **options: Any) -> Any:
    """Returns a save plan, its metadata and mappings, and the matching load plan."""
    saver = implementation.DefaultSavePlanner(**options)
    saver.set_up_planner(make(), None, True)
    plan = saver.create_local_plan()
    _, metadata = saver.create_global_plan([plan])
    loader = implementation.DefaultLoadPlanner(**options)
    loader.set_up_planner(make(), metadata, True)
    return plan, metadata, loader.create_local_plan(), loader.mappings, list(loader.state_dict)


@pytest.mark.parametrize("name", NOT_UPSTREAM)
@pytest.mark.parametrize("options", [{}, {"flatten_sharded_tensors": False}], ids=str)
def test_nested(name: str, options: dict[str, Any]) -> None:
    expected = both_plans(UPSTREAM, nested, **options)
    with chosen(name) as implementation:
        assert_same(both_plans(implementation, nested, **options), expected)


def test_names_and_paths(implementation: Implementation) -> None:
    _, metadata, _, mappings, _ = both_plans(implementation, nested)
    assert mappings["a.b.c"] == ("a", "b", "c")
    assert mappings["list.1.deep"] == ("list", 1, "deep")
    assert mappings["7.8"] == ("7", "8")
    assert mappings["numbers"] == ("numbers",)
    assert set(metadata.state_dict_metadata) == set(mappings)
    assert metadata.planner_data == mappings


def test_flattening_can_be_undone() -> None:
    flat, mappings = flatten_state_dict(nested())
    back = unflatten_state_dict(flat, mappings)
    assert back["list"][1]["deep"].shape == (3,)
    assert back["a"]["values"] == [1, 2, 3]


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"a": {"b": 1}, "a.b": 2},
        lambda: {"a": [torch.zeros(1)], "a.0": 2},
        lambda: {1: 3, "1": 4},
        lambda: {"a": {"b": 1}, "c": {}},
    ],
)
@pytest.mark.parametrize("flatten", [True, False])
def test_duplicate_keys(make: Any, flatten: bool) -> None:
    answers = []
    for name in NAMES:
        with chosen(name) as implementation:
            answers.append(answer(both_plans, implementation, make, flatten_state_dict=flatten))
    for found in answers[1:]:
        assert_same(found, answers[0])


def cyclic() -> dict[str, Any]:
    cycle: dict[str, Any] = {"weight": torch.zeros(2)}
    cycle["itself"] = cycle
    return cycle


def test_cycle() -> None:
    """Upstream flattens until Python's recursion limit; nothing may crash or hang."""
    found = []
    for name in NAMES:
        with chosen(name) as implementation:
            found.append(answer(both_plans, implementation, cyclic).kind)
    assert found == [RecursionError] * 3


def metadata_of_torch_2_3(state_dict: dict[str, Any]) -> Metadata:
    """Returns metadata with the keys of torch 2.3, which did not flatten dicts without tensors."""
    _version._derived_version = "2_3"
    try:
        planner = UPSTREAM.DefaultSavePlanner()
        planner.set_up_planner(state_dict, None, True)
        metadata: Metadata = planner.create_global_plan([planner.create_local_plan()])[1]
    finally:
        _version._derived_version = None
    return metadata


@pytest.mark.parametrize("name", NOT_UPSTREAM)
@pytest.mark.parametrize("partial", [False, True])
def test_keys_of_torch_2_3(name: str, partial: bool) -> None:
    metadata = metadata_of_torch_2_3(nested())
    assert "a.options" in metadata.state_dict_metadata
    assert "a.options.x" not in metadata.state_dict_metadata

    def load(implementation: Implementation) -> Any:
        planner = implementation.DefaultLoadPlanner(allow_partial_load=partial)
        planner.set_up_planner(nested(), metadata, True)
        found = answer(planner.create_local_plan)
        assert _version._derived_version is None
        return found, planner.mappings, list(planner.state_dict)

    expected = load(UPSTREAM)
    with chosen(name) as implementation:
        assert_same(load(implementation), expected)


@pytest.mark.parametrize("partial", [False, True])
def test_other_keys_do_not_mean_an_old_checkpoint(
    implementation: Implementation, partial: bool
) -> None:
    """An additional key in the checkpoint does not mean an old checkpoint: nothing is renamed."""
    _, metadata, *_ = both_plans(UPSTREAM if partial else implementation, nested)
    planner = implementation.DefaultLoadPlanner(allow_partial_load=partial)
    smaller = nested()
    del smaller["text"]
    planner.set_up_planner(smaller, metadata, True)
    before = planner.state_dict
    assert planner.create_local_plan().items
    assert planner.state_dict is before


def test_error_while_reading_old_keys_leaves_no_trace() -> None:
    """Only shardplan restores the version when flattening fails: later saves are correct."""
    with chosen("ours") as implementation:
        planner = implementation.DefaultLoadPlanner()
        planner.set_up_planner({"a": {"b": 1}}, Metadata({"absent": None}), True)  # type: ignore[dict-item]
        planner.original_state_dict = {"a": {"b": torch.zeros(1)}, "a.b": 2}
        found = answer(planner.create_local_plan)
    assert isinstance(found, Raised)
    assert found.message == "duplicated flatten key a.b"
    assert _version._derived_version is None


def test_partial_load(implementation: Implementation, tmp_path: Path) -> None:
    saved = {"model": {"a": torch.ones(2)}, "step": 3}
    dcp.save(saved, checkpoint_id=tmp_path, no_dist=True)
    wanted = {"model": {"a": torch.zeros(2), "new": torch.full((2,), 9.0)}, "epoch": 4}
    with pytest.raises(dcp.api.CheckpointException, match="Missing key in checkpoint state_dict"):
        dcp.load(
            wanted,
            checkpoint_id=tmp_path,
            planner=implementation.DefaultLoadPlanner(),
            no_dist=True,
        )
    planner = implementation.DefaultLoadPlanner(allow_partial_load=True)
    dcp.load(wanted, checkpoint_id=tmp_path, planner=planner, no_dist=True)
    assert wanted["model"]["a"].tolist() == [1, 1]  # type: ignore[index]
    assert wanted["model"]["new"].tolist() == [9, 9]  # type: ignore[index]
    assert wanted["epoch"] == 4


@pytest.mark.parametrize(
    "keys", [None, {"model"}, {"model.embed", "step"}, {"optimizer.state.norm"}, {"absent"}, set()]
)
def test_state_dict_rebuilt_from_metadata(keys: set[str] | None) -> None:
    """_EmptyStateDictLoadPlanner loads everything, or the entries below some keys."""
    with rank_of(0, 1):
        saver = UPSTREAM.DefaultSavePlanner()
        saver.set_up_planner(fully_sharded(0, 1), None, True)
        _, metadata = saver.create_global_plan([saver.create_local_plan()])

    def rebuilt(implementation: Implementation) -> Any:
        state_dict: dict[str, Any] = {}
        planner = implementation.default_planner._EmptyStateDictLoadPlanner(keys)
        planner.set_up_planner(state_dict, metadata, True)
        plan = planner.create_local_plan()
        shapes = {name: getattr(value, "shape", None) for name, value in planner.state_dict.items()}
        return plan, shapes, planner.mappings, str(sorted(state_dict))

    expected = rebuilt(UPSTREAM)
    for name in NOT_UPSTREAM:
        with chosen(name) as implementation:
            assert_same(rebuilt(implementation), expected)
    assert bool(expected[0].items) is (keys not in ({"absent"}, set()))


@pytest.mark.parametrize(
    ("state_dict", "metadata", "message"),
    [({"a": 1}, Metadata({}), "not state_dict"), ({}, None, "metadata is not None")],
)
def test_empty_planner_refuses(
    implementation: Implementation, state_dict: Any, metadata: Any, message: str
) -> None:
    planner = implementation.default_planner._EmptyStateDictLoadPlanner()
    with pytest.raises(AssertionError, match=message):
        planner.set_up_planner(state_dict, metadata, True)


def test_meta_tensors_are_materialized(implementation: Implementation) -> None:
    """A load materializes meta tensors in place before it plans."""
    state_dict = {"a": torch.zeros(2, device="meta"), "b": [torch.zeros(1, device="meta"), 3]}
    with rank_of(0, 1):
        planner = implementation.DefaultLoadPlanner()
        planner.set_up_planner(state_dict, Metadata({}), True)
    assert state_dict["a"].device.type == "cpu"  # type: ignore[union-attr]
    assert state_dict["b"][0].device.type == "cpu"


@pytest.mark.parametrize("function", ["_init_state_dict", "_iterate_state_dict"])
def test_state_dict_walkers(implementation: Implementation, function: str) -> None:
    walk = getattr(implementation.planner_helpers, function)
    state_dict = {"a": torch.zeros(2), "b": [1, (torch.zeros(1), "x")], "c": None}
    if function == "_init_state_dict":
        assert walk(state_dict) is None
        return
    seen: list[str] = []

    def note(kind: str) -> Any:
        return lambda value: seen.append(kind) or kind

    assert walk(state_dict, note("DTensor"), note("ShardedTensor"), note("Tensor")) is state_dict
    assert seen == ["Tensor", "Tensor"]
    assert state_dict == {"a": "Tensor", "b": [1, ("Tensor", "x")], "c": None}
