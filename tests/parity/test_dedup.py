"""Dedup decides which rank writes an item that several ranks have."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.planner import SavePlan

from parity.comparison import answer, assert_same, assert_same_answer
from parity.implementations import OURS, Implementation
from shardplan.dcp.upstream import originals


def plan_of(state_dict: dict[str, Any], implementation: Implementation = OURS) -> SavePlan:
    plan = implementation.default_planner.create_default_local_save_plan(state_dict, True)
    assert isinstance(plan, SavePlan)
    return plan


def kept(plans: list[SavePlan]) -> list[list[str]]:
    return [[item.index.fqn for item in plan.items] for plan in plans]


def test_smallest_plan_keeps_a_duplicate(implementation: Implementation) -> None:
    large, small = {"a": torch.zeros(100)}, {"b": torch.zeros(2)}
    plans = [
        plan_of({**large, **small}, implementation),
        plan_of({**large, **small, "c": torch.zeros(3)}, implementation),
    ]
    dedup = implementation.default_planner.dedup_save_plans
    assert kept(dedup(plans)) == [["a"], ["b", "c"]]
    assert kept(dedup(plans, True)) == [["a", "b"], ["c"]]
    assert kept(dedup(plans, save_to_lowest_rank=True)) == [["a", "b"], ["c"]]
    assert kept(plans) == [["a", "b"], ["a", "b", "c"]]


def test_bytes_count_as_one(implementation: Implementation) -> None:
    state_dict = {"config": 3, "a": torch.zeros(2), "b": torch.zeros(2), "c": 4}
    plans = [plan_of(state_dict, implementation) for _ in range(3)]
    assert kept(implementation.default_planner.dedup_save_plans(plans)) == [
        ["config", "c"],
        ["a"],
        ["b"],
    ]


def test_dedup_tensors_keeps_the_first(implementation: Implementation) -> None:
    plans = [plan_of({"a": torch.zeros(4), "b": torch.zeros(2)}, implementation) for _ in range(3)]
    plans.append(plan_of({"b": torch.zeros(2), "c": 3}, implementation))
    assert kept(implementation.dedup_tensors(plans)) == [["a", "b"], [], [], ["c"]]
    assert len(plans[1].items) == 2


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("ranks", [1, 2, 5, 16, 40])
def test_ties_are_resolved_as_upstream(ranks: int, seed: int) -> None:
    """A tie is won by the first rank of a set in CPython's order, which is not ascending."""
    rng = random.Random(seed)
    state_dicts = [
        {f"w{i}": torch.zeros(rng.choice((1, 2, 3))) for i in range(30) if rng.random() < 0.6}
        for _ in range(ranks)
    ]
    ours = [plan_of(state_dict) for state_dict in state_dicts]
    upstream = [
        originals.create_default_local_save_plan(state_dict, True) for state_dict in state_dicts
    ]
    for lowest in (False, True):
        assert_same(
            OURS.default_planner.dedup_save_plans(ours, lowest),
            originals.dedup_save_plans(upstream, lowest),
        )
    assert_same(OURS.dedup_tensors(ours), originals.dedup_tensors(upstream))


def test_other_fields_are_kept(implementation: Implementation) -> None:
    plan = dataclasses.replace(
        plan_of({"a": torch.zeros(2)}, implementation), storage_data="s", planner_data={"a": 1}
    )
    for dedup in (implementation.default_planner.dedup_save_plans, implementation.dedup_tensors):
        deduped = dedup([plan, plan])
        assert [(each.storage_data, each.planner_data) for each in deduped] == [("s", {"a": 1})] * 2


@pytest.mark.parametrize(
    "plans", [None, [], [None], [SavePlan([None])], [SavePlan(None)], ["plan"], 3], ids=repr
)
def test_broken_plans(plans: Any) -> None:
    assert_same_answer(OURS.default_planner.dedup_save_plans, originals.dedup_save_plans, plans)
    assert_same_answer(OURS.dedup_tensors, originals.dedup_tensors, plans)


def test_global_plan_of_duplicates() -> None:
    plans = [plan_of({"a": torch.zeros(2), "b": 1}), plan_of({"a": torch.zeros(2)})]
    for chosen_plans in (plans, plans[:1], plans[::-1], [plans[0], plan_of({})]):
        for chunk_indices in (True, False):
            assert_same(
                answer(
                    OURS.default_planner.create_default_global_save_plan,
                    chosen_plans,
                    chunk_indices,
                ),
                answer(originals.create_default_global_save_plan, chosen_plans, chunk_indices),
            )
