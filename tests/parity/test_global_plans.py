"""dedup_save_plans and create_default_global_save_plan, for plans of every form and kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.planner import SavePlan, WriteItem
from torch.distributed.tensor import Replicate, Shard

from parity.comparison import Raised, answer
from parity.implementations import OURS
from parity.save_items import (
    READABLE,
    UNUSUAL_ITEMS,
    Uncopyable,
    bytes_item,
    shard_item,
    tensor_item,
)
from parity.state_dicts import BY_NAME, WORLD_SIZE
from parity.travel import (
    FORMS,
    assert_same_as_upstream,
    has_travelled,
    in_forms,
    sent,
    sent_upstream,
    with_lazy_list,
)
from parity.worlds import dtensor_of, mesh_of, rank_of, sharded_tensor_of
from shardplan.dcp.upstream import originals

ours = OURS.default_planner
MakeStateDict = Callable[[int], dict[str, Any]]


def replicas(shards: int, world_size: int, seed: int) -> MakeStateDict:
    """HSDP over shuffled ranks, so that each shard belongs to scattered ranks."""
    ranks = random.Random(seed).sample(range(world_size), world_size // shards * shards)

    def state_dict(rank: int) -> dict[str, Any]:
        mesh = mesh_of((len(ranks) // shards, shards), ranks)
        flat = mesh_of((len(ranks),), ranks)
        return {
            "same.0": dtensor_of((2 * shards, 2), mesh, [Replicate(), Shard(0)]),
            "same.1": dtensor_of((2 * shards, 2), mesh, [Replicate(), Shard(0)]),
            "same.2": dtensor_of((2 * shards, 2), mesh, [Replicate(), Shard(0)]),
            "uneven": dtensor_of((5,), mesh, [Replicate(), Shard(0)], dtype=torch.int64),
            "everywhere": dtensor_of((3,), flat, [Replicate()]),
            "plain": torch.zeros(2),
            "step": 7,
        }

    return state_dict


def kinds(rank: int) -> dict[str, Any]:
    """Sizes with zeros, a table of each rank's own, and a replicated ShardedTensor."""
    mesh = mesh_of((2, 3), [4, 1, 0, 5, 2, 3])
    rows = [((min(part, 4),), (1 if part < 4 else 0,), part) for part in range(6)]
    return {
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "step": 3,
        f"table.{rank % 4}": torch.zeros(rank % 4 + 1, 2),
        "grid": dtensor_of((7, 5), mesh, [Shard(0), Shard(1)]),
        "fewer": dtensor_of((2, 3), mesh, [Shard(0), Replicate()]),
        "nothing": dtensor_of((0, 3), mesh, [Replicate(), Shard(0)]),
        f"only.{rank}": rank,
        "sharded": sharded_tensor_of((4,), rows),
        "0-d": dtensor_of((), mesh, [Replicate(), Replicate()]),
    }


def of_different_entries(rank: int) -> dict[str, Any]:
    """Adjacent ranks share entries, with a different order and size on each."""
    rng = random.Random(rank)
    names = rng.sample(range(12), 8)
    return {f"entry.{name}": torch.zeros(name % 3 + 1) if name % 4 else name for name in names}


WORLDS: dict[str, tuple[int, MakeStateDict]] = {
    **{name: (WORLD_SIZE, make) for name, make in BY_NAME.items()},
    "kinds": (6, kinds),
    "different entries": (9, of_different_entries),
    "3 replicas on 33 ranks": (33, replicas(11, 33, seed=1)),
    "16 replicas on 64 ranks": (64, replicas(4, 64, seed=2)),
    "33 replicas on 100 ranks": (100, replicas(3, 100, seed=3)),
    "2 replicas on 100 ranks": (100, replicas(50, 100, seed=4)),
}


def local_plans(make: Callable[..., SavePlan], world: tuple[int, MakeStateDict]) -> list[SavePlan]:
    world_size, state_dict = world
    plans = []
    for rank in range(world_size):
        with rank_of(rank, world_size):
            plans.append(make(state_dict(rank), rank == 0))
    return plans


def planned(implementation: Any, plans: list[SavePlan], lowest: bool) -> list[Any]:
    """Returns the coordinator's answer for each step."""
    deduped = answer(implementation.dedup_save_plans, plans, lowest)
    if isinstance(deduped, Raised):
        return [deduped]
    return [
        deduped,
        answer(implementation.create_default_global_save_plan, deduped),
        answer(implementation.create_default_global_save_plan, plans),
        answer(implementation.create_default_global_save_plan, deduped, False),
    ]


def check(plans: list[SavePlan], upstream: list[SavePlan], form: str) -> list[Any]:
    if has_travelled(form):
        upstream = [sent_upstream(plan) for plan in upstream]
    plans = in_forms(plans, form)
    for lowest in (True, False):
        expected = planned(originals, upstream, lowest)
        assert_same_as_upstream(planned(ours, plans, lowest), expected, form)
    return expected


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_worlds(world: tuple[int, MakeStateDict]) -> None:
    upstream = local_plans(originals.create_default_local_save_plan, world)
    for form in (*FORMS, "mixed"):
        plans = local_plans(ours.create_default_local_save_plan, world)
        deduped, *_ = check(plans, upstream, form)
        assert sum(len(plan.items) for plan in deduped) <= sum(len(p.items) for p in upstream)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("lowest", [False, True])
def test_no_item_is_created(world: tuple[int, MakeStateDict], lowest: bool) -> None:
    """Dedup and the global plan create columns from received plans."""
    plans = [sent(p) for p in local_plans(ours.create_default_local_save_plan, world)]
    deduped = ours.dedup_save_plans(plans, lowest)
    global_plans, metadata = ours.create_default_global_save_plan(deduped)
    received = [sent(plan) for plan in global_plans]
    for plan in (*plans, *deduped, *global_plans, *received):
        assert plan.items.columns is not None
    assert all(
        saved.chunks.columns is not None
        for saved in metadata.state_dict_metadata.values()
        if hasattr(saved, "chunks")
    )
    upstream_plans, _ = originals.create_default_global_save_plan(
        originals.dedup_save_plans(
            local_plans(originals.create_default_local_save_plan, world), lowest
        )
    )
    assert_same_as_upstream(received, upstream_plans, "received")


@pytest.mark.parametrize("world", ["3 replicas on 33 ranks", "2 replicas on 100 ranks"])
def test_ties_are_not_won_by_the_lowest_rank(world: str) -> None:
    """The worlds above must distinguish CPython's set order from the order of ranks."""
    plans = local_plans(originals.create_default_local_save_plan, WORLDS[world])
    holders: dict[Any, list[int]] = {}
    for rank, plan in enumerate(plans):
        for item in plan.items:
            holders.setdefault(item.index, []).append(rank)
    groups = [ranks for index, ranks in holders.items() if index.fqn == "same.0"]
    assert any(next(iter(set(ranks))) != min(ranks) for ranks in groups)


TWICE: dict[str, tuple[list[WriteItem], list[WriteItem]]] = {
    "tensor": ([tensor_item("a", (2,))], [tensor_item("a", (2,))]),
    "bytes": ([bytes_item("a")], [bytes_item("a")]),
    "bytes after a tensor": ([tensor_item("a", (2,))], [bytes_item("a")]),
    "tensor after bytes": ([bytes_item("a")], [tensor_item("a", (2,))]),
    "shard after bytes": ([bytes_item("a")], [shard_item("a")]),
    "bytes after a shard": ([shard_item("a")], [bytes_item("a")]),
    "shard after a tensor": ([tensor_item("a", (2,))], [shard_item("a", 1)]),
    "tensor after a shard": ([shard_item("a", 1)], [tensor_item("a", (2,))]),
    "shard twice": ([shard_item("a")], [shard_item("a")]),
    "shard of another size": (
        [shard_item("a")],
        [tensor_item("a", (9,), offsets=(3,), sizes=(6,))],
    ),
    "shard of another dtype": (
        [shard_item("a")],
        [tensor_item("a", (8, 3), torch.int64, offsets=(2, 0), sizes=(2, 3))],
    ),
    "0-d tensor and bytes": ([tensor_item("a", ())], [bytes_item("a")]),
    "0-d shards": ([tensor_item("a", (), offsets=())], [tensor_item("a", (), offsets=())]),
    "larger elsewhere": ([tensor_item("a", (2,))], [tensor_item("a", (200,))]),
}


@pytest.mark.parametrize(("first", "second"), TWICE.values(), ids=TWICE)
def test_one_name_twice(first: list[WriteItem], second: list[WriteItem]) -> None:
    """On two ranks or on one, with a rank that holds another entry."""
    other = [tensor_item("b", (3,)), shard_item("a", 3)]
    for items in (
        [first, second],
        [[*first, *second]],
        [[*first, *second, *first], other, second],
        [other, second, first],
    ):
        of_upstream = [SavePlan(list(each)) for each in items]
        for form in (*FORMS, "mixed"):
            check([with_lazy_list(plan) for plan in of_upstream], of_upstream, form)


@pytest.mark.parametrize("name", UNUSUAL_ITEMS)
def test_unusual_items(name: str) -> None:
    """The item comes first on one rank and later on another, among items that columns hold."""

    def plans() -> list[SavePlan]:
        make_unusual = UNUSUAL_ITEMS[name]
        return [
            SavePlan([bytes_item("b"), shard_item("w", 0), tensor_item("t", (4,))]),
            SavePlan([tensor_item("t", (4,)), make_unusual(), shard_item("w", 2)]),
            SavePlan([shard_item("w", 1), shard_item("w", 2), bytes_item("b"), bytes_item("c")]),
            SavePlan([make_unusual(), tensor_item("t", (4,))]),
        ]

    for form in (*FORMS, "mixed"):
        check(plans(), plans(), form)
        check(plans()[::-1], plans()[::-1], form)


@pytest.mark.parametrize(
    "name", [*READABLE, "chunk index", "64 dims", "lone surrogate", "long name"]
)
def test_unusual_items_among_columns(name: str) -> None:
    """One unusual item does not make the plans of all ranks fall back to upstream."""
    plans = [
        ours.create_default_local_save_plan({"a": torch.zeros(2), "b": 3}, True),
        SavePlan([UNUSUAL_ITEMS[name](), shard_item("x", 0)]),
    ]
    deduped = ours.dedup_save_plans(plans)
    global_plans, _ = ours.create_default_global_save_plan(deduped)
    assert all(plan.items.columns is not None for plan in (*deduped, *global_plans))


def test_huge_tensors() -> None:
    """Byte counts that exceed int64 only as a sum, or only times the element size."""
    for shapes in ([(2**61,)] * 3, [(2**60,)] * 12, [(2**62, 2)] * 2, [(2**63 - 1,)], [(2**62, 0)]):
        items = [tensor_item(f"t{i}", shape) for i, shape in enumerate(shapes)]
        of_upstream = [SavePlan(items), SavePlan(items[::-1]), SavePlan(items[:1])]
        for form in (*FORMS, "mixed"):
            check([with_lazy_list(plan) for plan in of_upstream], of_upstream, form)


def test_fields_of_plans_are_kept() -> None:
    def plans(make: Callable[..., SavePlan]) -> list[SavePlan]:
        made = []
        for rank in range(3):
            plan = make({"a": torch.zeros(2), f"b.{rank}": 1}, rank == 0)
            fields = {**vars(plan), "planner_data": {"a": ("a",), f"b.{rank}": ("b", rank)}}
            made.append(SavePlan(**{**fields, "storage_data": rank, "usable": rank != 1}))
        return made

    of_upstream = plans(originals.create_default_local_save_plan)
    for form in (*FORMS, "mixed"):
        check(plans(ours.create_default_local_save_plan), of_upstream, form)


def test_global_plans_planned_again() -> None:
    """Both functions accept their own results, including chunk indices."""
    state_dict = {"a": torch.zeros(2), "b": 1, "c": torch.zeros(3)}
    for form in (*FORMS, "mixed"):
        answers = []
        for make, functions in (
            (ours.create_default_local_save_plan, ours),
            (originals.create_default_local_save_plan, originals),
        ):
            plans = functions.dedup_save_plans([make(state_dict, True) for _ in range(3)])
            plans, _ = functions.create_default_global_save_plan(plans)
            if functions is ours:
                plans = in_forms(plans, form)
            again = functions.dedup_save_plans([*plans, plans[1]])
            answers.append([again, answer(functions.create_default_global_save_plan, again)])
        assert_same_as_upstream(*answers, form)


@pytest.mark.parametrize("dtype", [None, "float32", 3])
def test_dtype_that_is_none(dtype: Any) -> None:
    """Upstream computes the size of one item of each index: the last."""
    for at in range(2):
        plans = [SavePlan([tensor_item("a", (2,))]) for _ in range(2)]
        plans[at].items[0].tensor_data.properties.dtype = dtype  # type: ignore[union-attr]
        check(plans, plans, "as it is")


def test_items_that_cannot_be_copied() -> None:
    """Raises upstream's TypeError, where upstream raises it."""
    plans = [SavePlan([Uncopyable(shard_item("w", 0))])]
    expected = answer(originals.create_default_global_save_plan, plans)
    assert isinstance(expected, Raised)
    with pytest.raises(TypeError, match=r"unexpected keyword"):
        ours.create_default_global_save_plan(plans)
