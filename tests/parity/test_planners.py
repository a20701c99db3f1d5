"""The default planners, from the state dict of each rank to the final plans."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan

from parity.comparison import answer, assert_same, assert_same_pickles
from parity.implementations import NAMES, UPSTREAM, Implementation, chosen
from parity.simulation import load_plans, save_plans, sent
from parity.state_dicts import (
    BY_NAME,
    LOADABLE,
    WORLD_SIZE,
    fully_sharded,
    replicated,
    tensor_parallel,
)
from parity.worlds import rank_of

NOT_UPSTREAM = [name for name in NAMES if name != "upstream"]
OPTIONS = [
    {"flatten_state_dict": flatten, "flatten_sharded_tensors": sharded, **more}
    for flatten, sharded, more in itertools.product(
        (True, False), (True, False), ({}, {"dedup_save_to_lowest_rank": True})
    )
]


def described(options: dict[str, Any]) -> str:
    return "-".join(name for name, on in options.items() if on) or "no options"


@pytest.mark.parametrize("name", NOT_UPSTREAM)
@pytest.mark.parametrize("options", OPTIONS, ids=described)
@pytest.mark.parametrize("make_state_dict", BY_NAME.values(), ids=BY_NAME)
def test_save(make_state_dict: Any, options: dict[str, Any], name: str) -> None:
    for send in (True, False):
        expected = save_plans(
            lambda: UPSTREAM.DefaultSavePlanner(**options), make_state_dict, WORLD_SIZE, send=send
        )
        with chosen(name) as implementation:
            found = save_plans(
                lambda: implementation.DefaultSavePlanner(**options),
                make_state_dict,
                WORLD_SIZE,
                send=send,
            )
        assert_same(found, expected)
        for ours, upstream in zip(found.local_plans, expected.local_plans, strict=True):
            assert_same_pickles(ours.items, upstream.items)


@pytest.mark.parametrize("name", NOT_UPSTREAM)
@pytest.mark.parametrize("options", OPTIONS[::2], ids=described)
@pytest.mark.parametrize("make_state_dict", LOADABLE.values(), ids=LOADABLE)
def test_load(make_state_dict: Any, options: dict[str, Any], name: str) -> None:
    metadata = save_plans(
        lambda: UPSTREAM.DefaultSavePlanner(**options), make_state_dict, WORLD_SIZE
    ).metadata
    expected = load_plans(
        lambda: UPSTREAM.DefaultLoadPlanner(**options), make_state_dict, metadata, WORLD_SIZE
    )
    with chosen(name) as implementation:
        found = load_plans(
            lambda: implementation.DefaultLoadPlanner(**options),
            make_state_dict,
            metadata,
            WORLD_SIZE,
        )
    assert_same(found, expected)
    for ours, upstream in zip(found.local_plans, expected.local_plans, strict=True):
        assert_same_pickles(ours.items, upstream.items)
    assert any(plan.items for plan in expected.local_plans)


@pytest.mark.parametrize("name", NOT_UPSTREAM)
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_load_on_another_world(world_size: int, name: str) -> None:
    metadata = save_plans(UPSTREAM.DefaultSavePlanner, fully_sharded, WORLD_SIZE).metadata

    def wanted(rank: int) -> dict[str, Any]:
        return fully_sharded(rank, world_size)

    expected = load_plans(UPSTREAM.DefaultLoadPlanner, wanted, metadata, world_size)
    with chosen(name) as implementation:
        found = load_plans(implementation.DefaultLoadPlanner, wanted, metadata, world_size)
    assert_same(found, expected)


@pytest.mark.parametrize("name", NOT_UPSTREAM)
def test_load_metadata_of_the_other_implementation(name: str) -> None:
    """Plans from shardplan's metadata equal those from upstream's, and vice versa."""
    with chosen(name) as implementation:
        ours = save_plans(implementation.DefaultSavePlanner, tensor_parallel, WORLD_SIZE).metadata
        crossed = load_plans(
            implementation.DefaultLoadPlanner,
            tensor_parallel,
            save_plans(implementation.DefaultSavePlanner, tensor_parallel, WORLD_SIZE).metadata,
            WORLD_SIZE,
        )
    expected = load_plans(UPSTREAM.DefaultLoadPlanner, tensor_parallel, ours, WORLD_SIZE)
    assert_same(crossed, expected)


def test_plan_of_known_tensors(implementation: Implementation) -> None:
    """The save plan of one rank, against expected values."""
    with rank_of(1, WORLD_SIZE):
        planner = implementation.DefaultSavePlanner()
        planner.set_up_planner(tensor_parallel(1), None, False)
        plan = planner.create_local_plan()
    boxes = {
        item.index.fqn: (tuple(item.tensor_data.chunk.offsets), tuple(item.tensor_data.chunk.sizes))
        for item in plan.items
        if item.tensor_data is not None
    }
    # Rank 1 is (0, 1) on the mesh: it has strided rows 0, 1, 2 and 5, 6, 7, of which it gets half.
    assert boxes == {
        "model.column": ((5, 0), (2, 4)),
        "model.row": ((0, 3), (5, 2)),
        "model.norm": ((0,), (2,)),
        "model.scalar": ((), ()),
    }
    assert plan.planner_data == {
        "model.column": ("model", "column"),
        "model.row": ("model", "row"),
        "model.norm": ("model", "norm"),
        "model.scalar": ("model", "scalar"),
        "step": ("step",),
    }


def test_metadata_of_known_tensors(implementation: Implementation) -> None:
    saved = save_plans(implementation.DefaultSavePlanner, fully_sharded, WORLD_SIZE)
    embed = saved.metadata.state_dict_metadata["model.embed"]
    assert isinstance(embed, TensorStorageMetadata)
    assert embed.size == torch.Size([11, 4])
    assert [tuple(chunk.offsets) for chunk in embed.chunks] == [(0, 0), (3, 0), (6, 0), (9, 0)]
    assert [tuple(chunk.sizes) for chunk in embed.chunks] == [(3, 4), (3, 4), (3, 4), (2, 4)]
    chunk_indices = [
        item.index.index
        for plan in saved.global_plans
        for item in plan.items
        if item.index.fqn == "model.embed"
    ]
    assert chunk_indices == [0, 1, 2, 3]


def test_replicated_tensors_are_written_once(implementation: Implementation) -> None:
    for lowest in (False, True):
        saved = save_plans(
            lambda: implementation.DefaultSavePlanner(dedup_save_to_lowest_rank=lowest),  # noqa: B023
            replicated,
            WORLD_SIZE,
        )
        written = [item.index.fqn for plan in saved.global_plans for item in plan.items]
        assert len(written) == len(set(written)) == len(saved.metadata.state_dict_metadata)
        assert all(len(plan.items) == 0 for plan in saved.global_plans[1:]) is lowest


@pytest.mark.parametrize("name", NOT_UPSTREAM)
def test_one_process_without_a_group(name: str) -> None:
    def plans(implementation: Implementation) -> Any:
        planner = implementation.DefaultSavePlanner()
        planner.set_up_planner(replicated(0), None, True)
        local = planner.create_local_plan()
        global_plans, metadata = planner.create_global_plan([local])
        final = planner.finish_plan(global_plans[0])
        loader = implementation.DefaultLoadPlanner()
        loader.set_up_planner(replicated(0), metadata, True)
        return local, metadata, final, loader.create_local_plan()

    expected = plans(UPSTREAM)
    with chosen(name) as implementation:
        assert_same(plans(implementation), expected)


@pytest.mark.parametrize("name", NOT_UPSTREAM)
@pytest.mark.parametrize("strangers", [(0,), (1, 3), (0, 1, 2)])
def test_coordinator_takes_plans_of_both_kinds(strangers: tuple[int, ...], name: str) -> None:
    """Some ranks run upstream planners, others shardplan's; either may coordinate."""

    def local_plans(implementation: Implementation) -> list[SavePlan]:
        plans = []
        for rank in range(WORLD_SIZE):
            with rank_of(rank, WORLD_SIZE):
                planner = implementation.DefaultSavePlanner()
                planner.set_up_planner(fully_sharded(rank), None, rank == 0)
                plans.append(planner.create_local_plan())
        return plans

    def coordinate(implementation: Implementation, plans: list[SavePlan]) -> Any:
        planner = implementation.DefaultSavePlanner()
        with rank_of(0, WORLD_SIZE):
            planner.set_up_planner(fully_sharded(0), None, True)
            return planner.create_global_plan(sent(plans, True))

    upstream = local_plans(UPSTREAM)
    expected = coordinate(UPSTREAM, upstream)
    with chosen(name) as implementation:
        ours = local_plans(implementation)
        mixed = [(upstream if rank in strangers else ours)[rank] for rank in range(WORLD_SIZE)]
        assert_same(coordinate(implementation, mixed), expected)
    assert_same(coordinate(UPSTREAM, mixed), expected)


BROKEN_PLANS: dict[str, Any] = {
    "no plans": lambda plans: [],
    "none": lambda plans: None,
    "plan is none": lambda plans: [None, *plans[1:]],
    "plan is a string": lambda plans: ["plan"],
    "item is none": lambda plans: [SavePlan([None]), *plans],
    "item is a string": lambda plans: [SavePlan(["item"], planner_data={}), *plans],
    "items are none": lambda plans: [SavePlan(None, planner_data={}), *plans],
    "tensor item without data": lambda plans: [
        SavePlan([_without(plans[0].items[0], "tensor_data")], planner_data={})
    ],
    "tensor item without chunk": lambda plans: [SavePlan([_without_chunk(plans[0].items[0])])],
    "duplicate in one plan": lambda plans: [
        SavePlan(list(plans[0].items) * 2, planner_data=plans[0].planner_data)
    ],
    "no planner data": lambda plans: [SavePlan(list(plans[0].items))],
    "planner data of another type": lambda plans: [SavePlan([], planner_data=3)],
    "one rank missing": lambda plans: plans[1:],
    "all ranks twice": lambda plans: [*plans, *plans],
}


def _without(item: Any, field: str) -> Any:
    return dataclasses.replace(item, **{field: None})


def _without_chunk(item: Any) -> Any:
    return dataclasses.replace(item, tensor_data=dataclasses.replace(item.tensor_data, chunk=None))


@pytest.mark.parametrize("name", NOT_UPSTREAM)
@pytest.mark.parametrize("break_plans", BROKEN_PLANS.values(), ids=BROKEN_PLANS)
def test_broken_plans(break_plans: Any, name: str) -> None:
    def coordinate(implementation: Implementation) -> Any:
        plans = []
        for rank in range(WORLD_SIZE):
            with rank_of(rank, WORLD_SIZE):
                planner = implementation.DefaultSavePlanner()
                planner.set_up_planner(fully_sharded(rank), None, rank == 0)
                plans.append(planner.create_local_plan())
        return answer(planner.create_global_plan, break_plans(plans))

    expected = coordinate(UPSTREAM)
    with chosen(name) as implementation:
        assert_same(coordinate(implementation), expected)


def test_planner_keeps_its_plans(implementation: Implementation) -> None:
    """Callers read `plan`, `global_plan` and `metadata` from a planner after a save."""
    planner = implementation.DefaultSavePlanner()
    planner.set_up_planner(replicated(0), None, True)
    local = planner.create_local_plan()
    assert planner.plan is local
    global_plans, metadata = planner.create_global_plan([local])
    assert planner.global_plan is global_plans
    assert planner.metadata is metadata
    assert planner.finish_plan(global_plans[0]) is planner.plan is global_plans[0]


def test_load_planner_without_metadata(implementation: Implementation) -> None:
    planner = implementation.DefaultLoadPlanner()
    planner.set_up_planner({"a": torch.zeros(2)}, None, True)
    with pytest.raises(AssertionError, match=r"self\.metadata is not None"):
        planner.create_local_plan()


def test_global_load_plan_returns_the_plans(implementation: Implementation) -> None:
    planner = implementation.DefaultLoadPlanner()
    planner.set_up_planner({}, Metadata({}), True)
    plans = [planner.create_local_plan()]
    assert planner.create_global_plan(plans) is plans
    assert planner.finish_plan(plans[0]) is plans[0]
