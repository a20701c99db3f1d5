"""Objects are shared as upstream: between an item and its plan, and an item and the metadata."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan

from parity.implementations import OURS, UPSTREAM, Implementation
from parity.save_items import READABLE, bytes_item, shard_item, tensor_item
from parity.travel import sent, with_lazy_list, with_upstream_list

IMPLEMENTATIONS = pytest.mark.parametrize("kind", [UPSTREAM, OURS], ids=str)
RANKS = 3


def local_plans(kind: Implementation) -> list[SavePlan]:
    """Plans of a tensor and bytes on every rank, and of one entry that differs by rank."""
    return [
        kind.default_planner.create_default_local_save_plan(
            {"t": torch.zeros(4), "step": 3, f"own.{rank}": torch.zeros(2), "z": torch.zeros(3)},
            True,
        )
        for rank in range(RANKS)
    ]


def shards() -> list[SavePlan]:
    return [SavePlan([shard_item("w", part), bytes_item(f"b.{part}")]) for part in range(RANKS)]


FORMS: dict[str, Callable[[SavePlan], SavePlan]] = {
    "as it is": lambda plan: plan,
    "our list": with_lazy_list,
    "upstream list": with_upstream_list,
    "received": sent,
}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def entry(metadata: Metadata, name: str) -> TensorStorageMetadata:
    found = metadata.state_dict_metadata[name]
    assert isinstance(found, TensorStorageMetadata)
    return found


def touch_items(plans: list[SavePlan], metadata: Metadata) -> None:
    for plan in plans:
        plan.items[:0]


def touch_items_backwards(plans: list[SavePlan], metadata: Metadata) -> None:
    touch_items(plans[::-1], metadata)


def touch_chunks(plans: list[SavePlan], metadata: Metadata) -> None:
    for saved in metadata.state_dict_metadata.values():
        if isinstance(saved, TensorStorageMetadata):
            saved.chunks[:0]


def touch_one(plans: list[SavePlan], metadata: Metadata) -> None:
    plans[1].items[:0]
    touch_chunks(plans, metadata)


ORDERS = {
    "items first": touch_items,
    "last rank's items first": touch_items_backwards,
    "chunks first": touch_chunks,
    "one rank, then chunks": touch_one,
    "neither": lambda plans, metadata: None,
}
orders = pytest.mark.parametrize("touch", ORDERS.values(), ids=ORDERS)


def check_metadata(plans: list[SavePlan], metadata: Metadata) -> None:
    """Asserts that the metadata shares its objects with the items of the global plan."""
    found: dict[str, list[Any]] = {}
    for plan in plans:
        for item in plan.items:
            if item.tensor_data is not None:
                found.setdefault(item.index.fqn, []).append(item.tensor_data)
    for name, data in found.items():
        saved = entry(metadata, name)
        assert saved.properties is data[0].properties
        assert saved.size is data[0].size
        assert len(saved.chunks) == len(data)
        assert all(a is b.chunk for a, b in zip(saved.chunks, data, strict=True))
        assert len({id(each.properties) for each in data}) == len(data)


@IMPLEMENTATIONS
@forms
@orders
def test_metadata_shares_objects_with_the_items(
    kind: Implementation, form: Any, touch: Any
) -> None:
    for plans in (local_plans(kind), shards()):
        functions = kind.default_planner
        deduped = functions.dedup_save_plans([form(plan) for plan in plans])
        made, metadata = functions.create_default_global_save_plan(deduped)
        touch(made, metadata)
        check_metadata(made, metadata)


@IMPLEMENTATIONS
@orders
def test_chunk_lists_of_finish_plan(kind: Implementation, touch: Any) -> None:
    """The coordinator's exact lists hold the same chunks."""
    planner = kind.DefaultSavePlanner(flatten_state_dict=False)
    planner.set_up_planner({}, None, True)
    made, metadata = planner.create_global_plan(local_plans(kind))
    touch(made, metadata)
    planner.finish_plan(made[0])
    assert {type(entry(metadata, name).chunks) for name in ("t", "z")} == {list}
    check_metadata(made, metadata)


@IMPLEMENTATIONS
@forms
def test_items_seen_before_dedup_are_the_same_after(kind: Implementation, form: Any) -> None:
    functions = kind.default_planner
    plans = [form(plan) for plan in (*local_plans(kind), *shards())]
    seen = {id(item): item for plan in plans for item in plan.items}
    deduped = functions.dedup_save_plans(plans)
    assert sum(len(plan.items) for plan in deduped) < len(seen)
    assert all(id(item) in seen for plan in deduped for item in plan.items)


@IMPLEMENTATIONS
@forms
@pytest.mark.parametrize("before", [False, True])
def test_items_seen_after_dedup_are_those_of_the_plan(
    kind: Implementation, form: Any, before: bool
) -> None:
    """The order of access does not matter."""
    functions = kind.default_planner
    plans = [form(plan) for plan in local_plans(kind)]
    deduped = functions.dedup_save_plans(plans)
    for first, second in [(plans, deduped) if before else (deduped, plans)]:
        touch_items(first, Metadata({}))
        touch_items(second, Metadata({}))
    seen = {id(item) for plan in plans for item in plan.items}
    assert all(id(item) in seen for plan in deduped for item in plan.items)


@IMPLEMENTATIONS
@forms
def test_global_items_share_data_with_local_items(kind: Implementation, form: Any) -> None:
    """Items are new and have new indices, but share the tensor data; bytes items are the same."""
    functions = kind.default_planner
    plans = functions.dedup_save_plans([form(plan) for plan in local_plans(kind)])
    touch_items(plans, Metadata({}))
    made, metadata = functions.create_default_global_save_plan(plans)
    for plan, before in zip(made, plans, strict=True):
        for new, old in zip(plan.items, before.items, strict=True):
            assert (new is old) == (old.tensor_data is None)
            assert new.tensor_data is old.tensor_data
            assert new.index.fqn is old.index.fqn
    check_metadata(made, metadata)


@IMPLEMENTATIONS
@orders
def test_unusual_items_share_too(kind: Implementation, touch: Any) -> None:
    for name, make in READABLE.items():
        unusual = make()
        if unusual.tensor_data is None or unusual.index.offset is None:
            continue
        plans = [SavePlan([unusual, tensor_item("t", (2,))]), SavePlan([shard_item("w", 2)])]
        made, metadata = kind.default_planner.create_default_global_save_plan(plans)
        touch(made, metadata)
        check_metadata(made, metadata)
        assert made[0].items[0].tensor_data is unusual.tensor_data, name
        assert type(made[0].items[0]) is type(unusual), name


@IMPLEMENTATIONS
@orders
def test_a_change_of_an_items_dtype_reaches_the_metadata(kind: Implementation, touch: Any) -> None:
    functions = kind.default_planner
    made, metadata = functions.create_default_global_save_plan(shards())
    touch(made, metadata)
    for plan in made:
        plan.items[0].tensor_data.properties.dtype = torch.float16
        plan.items[0].tensor_data.chunk.sizes = torch.Size((1, 1))
    assert entry(metadata, "w").properties.dtype is torch.float16
    assert [tuple(chunk.sizes) for chunk in entry(metadata, "w").chunks] == [(1, 1)] * RANKS
    received = sent(made[1]).items[0].tensor_data
    assert (received.properties.dtype, tuple(received.chunk.sizes)) == (torch.float16, (1, 1))


@IMPLEMENTATIONS
def test_plans_do_not_share_lists(kind: Implementation) -> None:
    functions = kind.default_planner
    plans = local_plans(kind)
    deduped = functions.dedup_save_plans(plans)
    made, metadata = functions.create_default_global_save_plan(deduped)
    for plan in made:
        plan.items.clear()
    entry(metadata, "t").chunks.clear()
    assert [len(plan.items) for plan in deduped] != [0] * RANKS
    deduped[0].items.clear()
    assert [len(plan.items) for plan in plans] == [4] * RANKS
    assert len(entry(metadata, "z").chunks) == 1


def test_replace_does_not_materialize() -> None:
    """Each storage writer calls replace on every plan, on the coordinator."""
    plans = [sent(plan) for plan in local_plans(OURS)]
    functions = OURS.default_planner
    made, _ = functions.create_default_global_save_plan(functions.dedup_save_plans(plans))
    for plan in (*plans, *made):
        replaced = dataclasses.replace(plan, storage_data="prefix")
        assert replaced.items is plan.items
        assert replaced.items.columns is not None


@pytest.mark.parametrize(
    "kind",
    [
        UPSTREAM,
        OURS,
    ],
    ids=str,
)
@pytest.mark.parametrize("global_first", [False, True])
def test_a_local_item_first_accessed_after_the_global_plan(
    kind: Implementation, global_first: bool
) -> None:
    """It shares its tensor data with the global plan's item and the metadata, as upstream does."""
    (plan,) = local_plans(kind)[:1]
    made, metadata = kind.default_planner.create_default_global_save_plan([plan])
    first, second = (made[0], plan) if global_first else (plan, made[0])
    first.items[:0]
    second.items[:0]
    check_metadata(made, metadata)
    assert made[0].items[0].tensor_data is plan.items[0].tensor_data


@pytest.mark.parametrize(
    "kind",
    [
        UPSTREAM,
        OURS,
    ],
    ids=str,
)
def test_received_items_share_their_data(kind: Implementation) -> None:
    (plan,) = local_plans(kind)[:1]
    first = plan.items[0]
    index = dataclasses.replace(first.index, fqn="other")
    plan.items.append(dataclasses.replace(first, index=index))
    received = sent(plan) if kind is OURS else plan
    assert received.items[-1].tensor_data.properties is received.items[0].tensor_data.properties
