"""Plans travel as columns, with the same contents; every other pickle is upstream's."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import pickletools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed.distributed_c10d as collectives
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

import shardplan
from parity.boxes import row_chunks, tensor_metadata
from parity.comparison import assert_same
from parity.implementations import OURS
from parity.samples import EVERYTHING, RAISING, WORLD_SIZE
from parity.save_items import READABLE, UNUSUAL_ITEMS, bytes_item, shard_item, tensor_item
from parity.travel import packed, sent, sent_upstream, with_lazy_list
from parity.worlds import rank_of
from pickled import globals_of
from shardplan import _wire
from shardplan.dcp import wire
from shardplan.dcp.lazy.path_mappings import LazyDict
from shardplan.dcp.native import native
from shardplan.dcp.upstream import originals

ours = OURS.default_planner
SAMPLES = {name: make for name, make in EVERYTHING.items() if name not in RAISING}
# Upstream reports a ShardedTensor of which this rank holds no shard as an empty list.
RANK = 2


@pytest.fixture(autouse=True)
def upstream_pickler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planners of other tests install shardplan's pickler."""
    monkeypatch.setattr(collectives, "_pickler", pickle.Pickler)


@pytest.fixture
def rank() -> Iterator[None]:
    with rank_of(RANK, WORLD_SIZE):
        yield


def state_dict() -> dict[str, Any]:
    return {"model.b": torch.zeros(4), "model.a": torch.zeros(()), "step.0": 3}


MAPPINGS = {"model.b": ("model", "b"), "model.a": ("model.a",), "step.0": ("step", 0)}


def save_plan(**fields: Any) -> SavePlan:
    plan = ours.create_default_local_save_plan(state_dict(), True)
    return dataclasses.replace(plan, **{"planner_data": dict(MAPPINGS), **fields})


def upstream_save_plan(**fields: Any) -> SavePlan:
    plan = originals.create_default_local_save_plan(state_dict(), True)
    return dataclasses.replace(plan, **{"planner_data": dict(MAPPINGS), **fields})


def load_plan() -> LoadPlan:
    metadata = Metadata({"w": tensor_metadata((6,), row_chunks(6, 3))})
    plan = ours.create_default_local_load_plan({"w": torch.zeros(6)}, metadata)
    assert type(plan) is LoadPlan
    return plan


def as_upstream(plan: Any) -> Any:
    """The plan after a round trip through upstream's pickler."""
    return sent_upstream(plan)


@pytest.mark.parametrize("make", SAMPLES.values(), ids=SAMPLES)
def test_plans_of_every_sample(make: Callable[[], Any], rank: None) -> None:
    entries = {"an entry": make()}
    expected = originals.create_default_local_save_plan(entries, True)
    for plan in (
        ours.create_default_local_save_plan(entries, True),
        with_lazy_list(originals.create_default_local_save_plan(entries, True)),
        expected,
    ):
        received = sent(plan)
        assert len(received.items) == len(expected.items)
        assert len(expected.items) == 0 or received.items.columns is not None
        assert_same(as_upstream(received), sent_upstream(expected))
    _, metadata = originals.create_default_global_save_plan([expected])
    wanted = originals.create_default_local_load_plan(entries, metadata, False)
    for read in (ours.create_default_local_load_plan(entries, metadata, False), wanted):
        assert_same(sent(read), sent_upstream(wanted))


def test_plans_of_all_samples(rank: None) -> None:
    entries = {name: make() for name, make in SAMPLES.items()}
    mappings = {name: (name,) for name in entries}
    plan = ours.create_default_local_save_plan(entries, True)
    expected = originals.create_default_local_save_plan(entries, True)
    received = sent(dataclasses.replace(plan, planner_data=mappings))
    assert received.items.columns is not None
    assert received.planner_data == mappings
    assert_same(as_upstream(received).items, sent_upstream(expected).items)


@pytest.mark.parametrize("first", ["bytes", "tensor"])
@pytest.mark.parametrize("name", UNUSUAL_ITEMS)
def test_unusual_items_are_received_as_by_upstream(name: str, first: str) -> None:
    unusual = UNUSUAL_ITEMS[name]()
    items = [shard_item("w", 0), unusual, tensor_item("t", (4,), torch.int64), shard_item("w", 1)]
    items.insert(0 if first == "bytes" else 2, bytes_item("b"))
    for plan in (SavePlan(list(items)), with_lazy_list(SavePlan(list(items)))):
        received = sent(sent(plan))
        assert len(received.items) == 5
        assert_same(sent_upstream(received), sent_upstream(sent_upstream(SavePlan(items))))


@pytest.mark.parametrize(
    "name", [*READABLE, "index subclass", "chunk of tuples", "negative chunk index"]
)
def test_only_unusual_items_travel_as_objects(name: str) -> None:
    unusual = UNUSUAL_ITEMS[name]()
    items = [bytes_item("b"), shard_item("w", 0), unusual, tensor_item("w", (4,))]
    _, objects, _ = native.pack_save(items, None, None)
    assert [each is unusual for each in objects] == [True]
    assert native.pack_save([items[0], *items[1:2]], None, None)[1] == []


@pytest.mark.parametrize("name", ["lone surrogate", "65 dims"])
def test_plans_that_cannot_be_encoded(name: str) -> None:
    """The other items travel as well."""
    items = [UNUSUAL_ITEMS[name](), *(tensor_item(f"t{i}", (i,)) for i in range(5))]
    received = sent(SavePlan(items, planner_data={"t0": ("t0",)}))
    assert_same(
        sent_upstream(received), sent_upstream(SavePlan(items, planner_data={"t0": ("t0",)}))
    )


def test_a_change_of_a_materialized_item_is_sent() -> None:
    """Items are accessed before the plan travels, after dedup, and in a global plan."""

    def change(plan: SavePlan) -> None:
        assert plan.items[0].tensor_data is not None
        plan.items[0].tensor_data.properties.dtype = torch.float16
        plan.items[0].tensor_data.chunk.sizes = torch.Size((1,))

    def pipeline(functions: Any, plan: SavePlan, send: Any, step: int) -> list[Any]:
        found = []
        for at in range(4):
            if at == step:
                change(plan)
            plan = send(plan)
            found.append(sent_upstream(plan))
            if at == 1:
                (plan,) = functions.dedup_save_plans([plan])
            elif at == 2:
                (plan,), metadata = functions.create_default_global_save_plan([plan])
                found.append(sent_upstream(metadata))
        return found

    for step in range(4):
        assert_same(
            pipeline(ours, save_plan(), sent, step),
            pipeline(originals, upstream_save_plan(), sent_upstream, step),
        )


def test_removed_replaced_and_added_items_are_sent() -> None:
    plan, expected = sent(save_plan()), sent_upstream(upstream_save_plan())
    for each in (plan, expected):
        each.items.reverse()
        del each.items[1]
        each.items[0] = shard_item("other", 1)
        each.items.append("no item")
    assert_same(sent_upstream(sent(plan)), sent_upstream(expected))


def test_every_field_travels() -> None:
    fields = {"storage_data": ["a", {"b": 1}], "usable": False}
    plan, expected = save_plan(**fields), upstream_save_plan(**fields)
    for each in (plan, expected):
        object.__setattr__(each, "extra", {"list": [1, 2]})
    received = sent(sent(plan))
    assert received.items.columns is not None
    assert_same(sent_upstream(received), sent_upstream(expected))
    read, wanted = load_plan(), sent_upstream(load_plan())
    for each in (read, wanted):
        each.storage_data, each.planner_data, each.extra = "s", {"w": ("w",)}, 3
    assert_same(sent(sent(read)), wanted)


@dataclasses.dataclass(frozen=True)
class TaggedSavePlan(SavePlan):
    """A subclass of SavePlan."""

    tag: str = "mine"


class TaggedLoadPlan(LoadPlan):
    """A subclass of LoadPlan."""


def test_subclasses_travel_as_upstream_except_for_lazy_items() -> None:
    for plan in (
        TaggedSavePlan(**vars(upstream_save_plan())),
        TaggedLoadPlan(list(load_plan().items)),
    ):
        assert packed(plan) == pickle.dumps(plan, pickle.DEFAULT_PROTOCOL)
        assert_same(sent(plan), sent_upstream(plan))
    for plan in (TaggedSavePlan(**vars(save_plan())), TaggedLoadPlan(load_plan().items)):
        received = sent(plan)
        assert type(received) is type(plan)
        assert received.items.columns is not None
        assert received == plan
        assert type(sent(plan).items) is list  # The line above has materialized it.


def test_plans_inside_something_travel_as_columns() -> None:
    """DCP sends plans in a list or in a wrapper."""
    first, second = sent([save_plan(), {"plan": load_plan()}])
    assert first.items.columns is not None
    assert second["plan"].items.columns is not None
    twice = sent([plan := save_plan(), plan])
    assert twice[0] is twice[1]


def test_sent_bytes_name_one_function_of_shardplan() -> None:
    """The name never changes, because plans of other versions must find it.

    It is in a pickle inside of the pickle, which a rank without shardplan does not load.
    """
    for plan, kind, function in (
        (save_plan(), "SavePlan", "save_plan"),
        (load_plan(), "LoadPlan", "load_plan"),
    ):
        message = packed(plan)
        assert globals_of(message) == {
            "_pickle loads",
            "builtins iter",
            "builtins map",
            "builtins next",
            "functools partial",
            "importlib import_module",
            "importlib.util find_spec",
            "itertools compress",
            f"torch.distributed.checkpoint.planner {kind}",
        }
        (inside,) = [
            value
            for _, value, _ in pickletools.genops(message)
            if isinstance(value, bytes) and b"shardplan._wire" in value
        ]
        assert globals_of(inside) == {f"shardplan._wire {function}"}


def test_sent_bytes_are_fewer() -> None:
    tensors = {f"w{number}": torch.zeros(2) for number in range(100)}
    plans = (module.create_default_local_save_plan(tensors, True) for module in (ours, originals))
    first, second = (len(packed(plan)) for plan in plans)
    of_upstream = originals.create_default_local_save_plan(tensors, True)
    assert first == second < len(pickle.dumps(of_upstream)) / 8


class NotInstalled:
    """A finder for which shardplan is not installed."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def find_spec(self, name: str, *arguments: Any) -> Any:
        is_shardplan = name.split(".")[0] == "shardplan"
        return None if is_shardplan else self._finder.find_spec(name, *arguments)


@pytest.mark.parametrize("make", [save_plan, load_plan])
def test_a_rank_without_shardplan_unpickles_a_plan_that_raises(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = packed(make())
    for name in [name for name in sys.modules if name.split(".")[0] == "shardplan"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(finder) for finder in sys.meta_path])
    plan = pickle.loads(message)
    assert type(plan) in (SavePlan, LoadPlan)
    again = pickle.loads(pickle.dumps(plan))  # its coordinator sends it on
    for each in (plan, again):
        with pytest.raises(ModuleNotFoundError, match=r"shardplan, which rank \d+ has and a"):
            list(each.items)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_other_pickle_is_upstreams(protocol: int) -> None:
    assert pickle.dumps(save_plan(), protocol) == pickle.dumps(upstream_save_plan(), protocol)
    of_upstream = originals.create_default_local_load_plan(
        {"w": torch.zeros(6)}, Metadata({"w": tensor_metadata((6,), row_chunks(6, 3))})
    )
    assert pickle.dumps(load_plan(), protocol) == pickle.dumps(of_upstream, protocol)
    for plan, upstream in (
        (sent(save_plan()), upstream_save_plan()),
        (sent(load_plan()), of_upstream),
        (sent(sent(save_plan())), upstream_save_plan()),
    ):
        pickled = pickle.dumps(plan, protocol)
        assert globals_of(pickled) == globals_of(pickle.dumps(upstream, protocol))
        assert pickle.loads(pickled) == upstream


def test_deepcopy() -> None:
    for plan in (save_plan(), sent(save_plan())):
        assert_same(sent_upstream(copy.deepcopy(plan)), sent_upstream(upstream_save_plan()))
    for read in (load_plan(), sent(load_plan())):
        assert copy.deepcopy(read) == load_plan()
    plan = sent(save_plan())
    copied = copy.deepcopy(plan)
    copied.items[0].tensor_data.properties.dtype = torch.float16
    copied.planner_data.clear()
    assert sent_upstream(plan) == upstream_save_plan()


def test_copy_of_equal_content() -> None:
    for plan in (save_plan(), sent(save_plan()), upstream_save_plan()):
        assert_same(sent_upstream(copy.copy(plan)), sent_upstream(upstream_save_plan()))


@pytest.mark.parametrize("make", [save_plan, load_plan])
def test_copy_shares_its_items(make: Callable[[], Any]) -> None:
    """Upstream's shallow copy shares them too."""
    plan = make()
    assert copy.copy(plan).items is plan.items


def test_load_plans_are_forwarded_unchanged() -> None:
    plan = load_plan()
    received = sent(plan)
    data, _ = native.pack_load(received.items)
    assert native.pack_load(received.items)[0] is data
    assert native.pack_load(sent(received).items)[0] == data
    assert packed(received) == packed(plan)
    assert received.items.columns is not None
    received.items[0] = dataclasses.replace(received.items[0], lengths=torch.Size((1,)))
    assert sent(received).items[0].lengths == (1,)
    assert sent(received).items[1:] == plan.items[1:]


def test_items_and_mappings_of_two_plans() -> None:
    """The mappings of one plan with the items of another."""
    other = ours.create_default_local_save_plan({"x": torch.zeros(2)}, True)
    mixed = dataclasses.replace(sent(save_plan()), items=sent(other).items)
    for plan in (mixed, dataclasses.replace(mixed, items=list(mixed.items))):
        received = sent(plan)
        assert [item.index.fqn for item in received.items] == ["x"]
        assert list(received.planner_data.items()) == list(MAPPINGS.items())
    received = sent(dataclasses.replace(sent(save_plan()), items=[]))
    assert len(received.items) == 0
    assert received.planner_data == MAPPINGS


BROKEN = {
    "no bytes": (b"", [], {}),
    "other bytes": (b"no plan", [], {}),
    "no list of items": (b"no plan", None, {}),
    "another version's arguments": (1, 2),
}


@pytest.mark.parametrize("arguments", BROKEN.values(), ids=BROKEN)
def test_broken_plans_raise_when_used(arguments: tuple[Any, ...]) -> None:
    save, load = _wire.save_plan(*arguments), _wire.load_plan(*arguments)
    assert (len(save.items), len(load.items)) == (1, 1)
    for use in (
        lambda: save.items[0],
        lambda: list(save.planner_data),
        lambda: list(load.items),
    ):
        for _ in range(2):
            with pytest.raises(ValueError, match="plan from another rank cannot be read"):
                use()


@pytest.mark.parametrize(
    "name",
    list(BROKEN),
)
def test_broken_plans_raise_when_planned(name: str) -> None:
    plan = _wire.save_plan(*BROKEN[name])
    for function in (ours.dedup_save_plans, ours.create_default_global_save_plan):
        with pytest.raises(ValueError, match="plan from another rank cannot be read"):
            function([save_plan(), plan])


def test_broken_plans_name_their_rank() -> None:
    with pytest.raises(ValueError, match="rank 1: a save plan from another rank"):
        ours.dedup_save_plans([save_plan(), _wire.save_plan(b"no plan", [], {})])


@pytest.mark.parametrize(
    "make",
    [
        lambda: _wire.save_plan(b"no plan", [], {}),
        lambda: _wire.save_plan(1, 2),
        lambda: _wire.load_plan(1, 2),
    ],
    ids=["broken save plan", "unknown save plan", "unknown load plan"],
)
def test_broken_plans_can_be_sent_on(make: Callable[[], Any]) -> None:
    """An error while a coordinator scatters leaves the other ranks waiting."""
    received = sent(make())
    with pytest.raises(ValueError, match="cannot be read"):
        list(received.items)


def test_a_broken_load_plan_is_sent_on() -> None:
    received = sent(_wire.load_plan(b"no plan", [], {}))
    with pytest.raises(ValueError, match="cannot be read"):
        list(received.items)


def set_up() -> None:
    ours.DefaultSavePlanner().set_up_planner(state_dict(), None, True)
    ours.DefaultLoadPlanner().set_up_planner(state_dict(), Metadata({}), True)


def test_planners_install_the_pickler() -> None:
    ours.DefaultSavePlanner().set_up_planner(state_dict(), None, True)
    assert collectives._pickler is wire.Pickler
    collectives._pickler = pickle.Pickler
    ours.DefaultLoadPlanner().set_up_planner(state_dict(), Metadata({}), True)
    assert collectives._pickler is wire.Pickler


def test_unregister_restores_the_pickler() -> None:
    shardplan.register()
    assert collectives._pickler is wire.Pickler
    shardplan.unregister()
    assert collectives._pickler is pickle.Pickler
    with shardplan.registered():
        assert collectives._pickler is wire.Pickler
    assert collectives._pickler is pickle.Pickler


def test_plans_travel_as_upstream_on_request() -> None:
    set_up()
    with shardplan.registered(wire=False):
        assert collectives._pickler is pickle.Pickler
        set_up()
        assert collectives._pickler is pickle.Pickler
        with shardplan.registered():
            assert collectives._pickler is pickle.Pickler
        assert collectives._pickler is pickle.Pickler
    assert not wire.refused()
    set_up()
    assert collectives._pickler is wire.Pickler


def test_a_callers_pickler_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(pickle.Pickler):
        """A caller's pickler."""

    monkeypatch.setattr(collectives, "_pickler", Own)
    set_up()
    with shardplan.registered():
        assert collectives._pickler is Own
    with shardplan.registered(wire=False):
        assert collectives._pickler is Own
    assert collectives._pickler is Own
    with shardplan.registered():
        monkeypatch.setattr(collectives, "_pickler", pickle.Pickler)
        shardplan.register()
        assert collectives._pickler is wire.Pickler
        collectives._pickler = Own
    assert collectives._pickler is Own


def test_a_torch_without_a_pickler_uses_upstreams_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(collectives, "_pickler")
    with shardplan.registered():
        set_up()
    assert not hasattr(collectives, "_pickler")


def test_received_mappings_are_lazy() -> None:
    plan = sent(save_plan())
    assert type(plan.planner_data) is LazyDict
    assert plan.planner_data.source is not None
    sent(plan)
    assert plan.planner_data.source is not None
