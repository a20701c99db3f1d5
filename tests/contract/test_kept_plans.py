"""Plans that a caller keeps in Metadata, as Megatron does, and that are lazy when read."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.filesystem import _StoragePrefix
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, WriteItem

from contract.metadata_files import read, written
from parity.comparison import assert_same
from parity.implementations import OURS
from parity.save_items import (
    OPAQUE,
    READABLE,
    UNUSUAL_ITEMS,
    bytes_item,
    shard_item,
    tensor_item,
)
from parity.travel import sent
from pickled import globals_of
from shardplan.dcp.lazy.items import LazyList

# A pickle does not keep these. What is loaded is plain.
DROPPED = {"attribute of the properties", "bools in sizes", "bools in the size"}
# The reader of pickles has no record for it.
NOT_READ = {"largest chunk index"}


def plain_items(rank: int) -> list[WriteItem]:
    return [
        tensor_item("a", (4, 2)),
        shard_item("w", rank),
        tensor_item("w", (8, 3), offsets=(2 * rank, 0), sizes=(2, 3), chunk_index=rank),
        bytes_item("step"),
        tensor_item("scalar", (), torch.bfloat16),
    ]


def keeping(plans: Sequence[Any], **attributes: Any) -> Metadata:
    """Returns metadata that holds plans, and other attributes."""
    item = shard_item("w")
    assert item.tensor_data is not None
    data = item.tensor_data
    entry = TensorStorageMetadata(data.properties, data.size, [data.chunk])
    saved = Metadata({"w": entry})
    vars(saved).update(all_local_plans=list(plans), **attributes)
    return saved


def is_lazy(plan: SavePlan) -> bool:
    return type(plan.items) is LazyList and plan.items.columns is not None


def upstream_copy(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def check_both_ways(make: Callable[[], Metadata], trust: bool = False) -> Any:
    """Compares the files and what is read from them. Returns metadata as read from shardplan's."""
    expected = upstream_copy(make())
    upstream_file, ours = pickle.dumps(make()), written(make())
    assert globals_of(ours) == globals_of(upstream_file)
    assert_same(pickle.loads(ours), expected)
    assert_same(read(upstream_file, trust), expected)
    assert_same(read(ours, trust), expected)
    # A file that was read is written again without a look at its items.
    assert_same(pickle.loads(written(read(ours, trust))), expected)
    assert_same(pickle.loads(written(read(upstream_file, trust))), expected)
    return read(ours, trust)


@pytest.mark.parametrize("ranks", [1, 3])
def test_received_plans_are_columns_from_end_to_end(ranks: int) -> None:
    def make() -> Metadata:
        plans = [sent(SavePlan(plain_items(rank))) for rank in range(ranks)]
        assert all(map(is_lazy, plans))
        made = keeping(plans)
        written(made)
        assert all(map(is_lazy, plans)), "writing the file materialized the items"
        return made

    found = check_both_ways(make)
    assert all(map(is_lazy, found.all_local_plans))
    assert all(map(is_lazy, read(pickle.dumps(make())).all_local_plans))
    # One plan is materialized, the others stay columns.
    assert_same(list(found.all_local_plans[-1].items), plain_items(ranks - 1))
    assert [is_lazy(plan) for plan in found.all_local_plans] == [True] * (ranks - 1) + [False]


def test_the_plans_of_a_global_plan() -> None:
    plans = [sent(SavePlan(plain_items(rank)[1:2])) for rank in range(4)]
    global_plan, _ = OURS.default_planner.create_default_global_save_plan(plans)

    def make() -> Metadata:
        return keeping(
            [dataclasses.replace(plan, storage_data=_StoragePrefix("__0_")) for plan in global_plan]
        )

    assert all(map(is_lazy, check_both_ways(make).all_local_plans))


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("name", UNUSUAL_ITEMS)
def test_unusual_items(name: str, lazy: bool) -> None:
    def make() -> Metadata:
        plans = [SavePlan([bytes_item("a"), shard_item(), UNUSUAL_ITEMS[name](), shard_item("v")])]
        return keeping([sent(plan) for plan in plans] if lazy else plans)

    try:
        pickle.loads(pickle.dumps(make()))
    except Exception:
        pytest.skip("upstream cannot pickle it")
    try:
        read(pickle.dumps(make()))
        trust = False
    except pickle.UnpicklingError:
        trust = True  # a class of this test, or a huge number
    found = check_both_ways(make, trust)
    if not trust:
        (plan,) = found.all_local_plans
        unusual = name in READABLE or name in OPAQUE or name in NOT_READ
        assert is_lazy(plan) == (name in DROPPED or not unusual)


def test_changed_items_are_written_as_they_are() -> None:
    def make() -> Metadata:
        plan = sent(SavePlan(plain_items(0)))
        plan.items.append(bytes_item("added"))
        plan.items[1].tensor_data.chunk.sizes = torch.Size((1, 3))
        return keeping([plan, sent(SavePlan(plain_items(1)))])

    found = check_both_ways(make)
    assert found.all_local_plans[0].items[-1].index.fqn == "added"
    assert found.all_local_plans[0].items[1].tensor_data.chunk.sizes == (1, 3)


def test_items_that_share_objects_stay_shared() -> None:
    """Columns would copy them, and a change to one item would no longer be one to the other."""

    def same_twice(saved: Any) -> bool:
        one, other = saved.all_local_plans
        return one.items[0].tensor_data.chunk is other.items[0].tensor_data.chunk

    shared = [SavePlan([shard_item()]), SavePlan([shard_item(), shard_item("v")])]
    shared[1].items[0] = dataclasses.replace(shared[0].items[0], index=shared[1].items[0].index)
    assert same_twice(keeping(shared))
    for pickled in (pickle.dumps(keeping(shared)), written(keeping(shared))):
        found = read(pickled)
        assert not any(map(is_lazy, found.all_local_plans))
        assert same_twice(found)
        assert same_twice(pickle.loads(written(found)))

    data = shard_item().tensor_data
    assert data is not None
    properties = [
        dataclasses.replace(
            item, tensor_data=dataclasses.replace(item.tensor_data, properties=data.properties)
        )  # type: ignore[type-var]
        for item in (shard_item(), shard_item("v"))
    ]
    (plan,) = read(pickle.dumps(keeping([SavePlan(properties)]))).all_local_plans
    assert plan.items[0].tensor_data.properties is plan.items[1].tensor_data.properties


def test_the_same_plan_twice() -> None:
    for plan in (sent(SavePlan(plain_items(0))), SavePlan(plain_items(0))):
        for pickled in (written(keeping([plan, plan])), pickle.dumps(keeping([plan, plan]))):
            for found in (read(pickled), pickle.loads(pickled)):
                one, two = found.all_local_plans
                assert one is two


def test_plans_that_share_a_list() -> None:
    plan = SavePlan(plain_items(0))
    plans = [plan, dataclasses.replace(plan, storage_data=_StoragePrefix("__0_"))]
    for pickled in (written(keeping(plans)), pickle.dumps(keeping(plans))):
        for found in (read(pickled), pickle.loads(pickled)):
            one, two = found.all_local_plans
            assert one.items is two.items
            assert is_lazy(one) == (type(one.items) is LazyList)


def test_two_attributes_of_plans() -> None:
    def make() -> Metadata:
        return keeping(
            [sent(SavePlan(plain_items(0)))],
            all_global_plans=[sent(SavePlan(plain_items(1)))],
            none=[],
            mixed=[SavePlan([]), 3],
        )

    found = check_both_ways(make)
    assert is_lazy(found.all_local_plans[0])
    assert is_lazy(found.all_global_plans[0])


def test_a_plan_anywhere_in_metadata_is_lazy() -> None:
    found = read(pickle.dumps(keeping([], best={"plan": SavePlan(plain_items(0))})))
    assert is_lazy(found.best["plan"])
    assert_same(list(found.best["plan"].items), plain_items(0))


class Tagged(SavePlan):
    """A plan of another class."""


def test_plans_of_other_classes() -> None:
    plans = [sent(SavePlan(plain_items(0))), Tagged(plain_items(1))]
    assert_same(pickle.loads(written(keeping(plans))), upstream_copy(keeping(plans)))


def test_attributes_of_plans() -> None:
    def make() -> Metadata:
        plan = sent(SavePlan(plain_items(0), planner_data={"a": ("a",)}))
        object.__setattr__(plan, "tag", {"list": [1, 2]})
        return keeping([plan])

    assert is_lazy(check_both_ways(make).all_local_plans[0])


def test_a_broken_plan_is_not_written() -> None:
    plan = sent(SavePlan(plain_items(0)))
    source = plan.items.columns
    broken = LazyList.from_columns(type(source)(b"\0" * 40, []))
    object.__setattr__(plan, "items", broken)
    with pytest.raises(Exception, match="save plan from another rank cannot be read"):
        written(keeping([plan]))


def test_many_references_to_an_item() -> None:
    """The columns of repeated items do not outgrow the file."""
    item = tensor_item("w", (1,) * 60)
    lists = [SavePlan([bytes_item("b")] * 50_000)]
    found = read(pickle.dumps(keeping(lists)))
    assert_same(found.all_local_plans[0].items, lists[0].items)
    found = read(pickle.dumps(keeping([SavePlan([item] * 1000)])))
    assert not is_lazy(found.all_local_plans[0])
    assert found.all_local_plans[0].items[0] is found.all_local_plans[0].items[999]
