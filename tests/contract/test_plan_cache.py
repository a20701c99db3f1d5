"""``enable_plan_caching``: each case shows a mistake of upstream that shardplan does not make."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import _StoragePrefix
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import (
    BytesIOWriteData,
    SavePlan,
    SavePlanner,
    WriteItem,
    WriteItemType,
)

from contract.upstream_caching import caches_unfinished_plans
from parity.implementations import OURS, UPSTREAM, Implementation
from parity.travel import sent
from plan_caches import CACHES, clear_plan_caches
from shardplan.dcp.planners import plan_cache
from shardplan.dcp.upstream import originals

# Only the coordinator keeps these.
OF_ALL_RANKS = ["_cached_all_plans", "_cached_global_plan", "_cached_metadata"]

StateDict = dict[str, Any]


def forget() -> None:
    clear_plan_caches()
    plan_cache._unfinished.clear()


@pytest.fixture(autouse=True)
def empty_plan_cache() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.fixture(params=[UPSTREAM, OURS], ids=str)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """The registered planners are not tested: upstream's planner keeps upstream's caching."""
    return request.param


class Writer(dcp.FileSystemWriter):
    """Adds a prefix to file names, on the rank or on the coordinator; may fail after planning."""

    def __init__(
        self, path: Path, *, fails: bool = False, local: str = "", every: str = ""
    ) -> None:
        super().__init__(path, sync_files=False)
        self.fails, self.local, self.every = fails, local, every

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        plan = super().prepare_local_plan(plan)
        return named(plan, self.local) if self.local else plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        if self.fails:
            raise OSError("no space left")
        if self.every:
            return [named(plan, f"{self.every}{rank}") for rank, plan in enumerate(plans)]
        return super().prepare_global_plan(plans)


def named(plan: SavePlan, prefix: str) -> SavePlan:
    return dataclasses.replace(plan, storage_data=_StoragePrefix(f"{prefix}_"))


def caching(implementation: Implementation, **options: Any) -> Any:
    """Returns a new planner, because each save creates one."""
    return implementation.DefaultSavePlanner(enable_plan_caching=True, **options)


def save(planner: Any, state: StateDict, folder: Path, **options: Any) -> Metadata:
    writer = Writer(folder, **options)
    return dcp.save(state, storage_writer=writer, planner=planner, no_dist=True)


def save_failing(planner: Any, state: StateDict, folder: Path) -> None:
    with pytest.raises(CheckpointException, match="no space left"):
        save(planner, state, folder, fails=True)


def holds(folder: Path, state: StateDict) -> bool:
    """Returns whether a checkpoint holds exactly this state dict."""
    metadata = dcp.FileSystemReader(folder).read_metadata()
    if list(metadata.state_dict_metadata) != list(state):
        return False
    if {index.fqn for index in metadata.storage_data} != set(state):
        return False
    loaded = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    dcp.load(loaded, checkpoint_id=folder, planner=originals.DefaultLoadPlanner(), no_dist=True)
    return all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def steps(planner: Any, state: StateDict) -> tuple[SavePlan, SavePlan, Metadata]:
    """Plans on one rank without storage. Returns the sent plan, the final plan and the metadata."""
    planner.set_up_planner(state, None, True)
    local = planner.create_local_plan()
    plans, metadata = planner.create_global_plan([local])
    return local, planner.finish_plan(plans[0]), metadata


def upstream_plan(state: StateDict) -> SavePlan:
    planner = originals.DefaultSavePlanner()
    planner.set_up_planner(state, None, True)
    return planner.create_local_plan()


# Upstream does not detect these changes.


class Sized:
    """An object that computes its own byte count."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes

    def __create_write_items__(self, fqn: str, value: object) -> list[WriteItem]:
        data = BytesIOWriteData(self.nbytes)
        return [WriteItem(MetadataIndex(fqn), WriteItemType.BYTE_IO, bytes_io_data=data)]

    # DCP creates write items for an object by its own methods only if it has all three.
    __create_chunk_list__ = __get_tensor_shard__ = None


CHANGES: dict[str, tuple[StateDict, StateDict]] = {
    "dtype": ({"w": torch.zeros(4)}, {"w": torch.zeros(4, dtype=torch.int32)}),
    "requires_grad": ({"w": torch.zeros(4)}, {"w": torch.zeros(4, requires_grad=True)}),
    "paths": ({"a": {"b": torch.zeros(4)}}, {"a.b": torch.zeros(4)}),
    "bytes_io_data": ({"o": Sized(1)}, {"o": Sized(2)}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_detected(implementation: Implementation, change: str) -> None:
    before, after = CHANGES[change]
    steps(caching(implementation), before)
    local, final, metadata = steps(caching(implementation), after)
    _, fresh_final, fresh_metadata = steps(implementation.DefaultSavePlanner(), after)
    right = implementation is OURS
    assert local.usable is right
    assert (final == fresh_final and metadata == fresh_metadata) is right


def test_order_of_mappings_is_detected() -> None:
    """Metadata has the mappings in this order."""
    plan = upstream_plan({"a": torch.zeros(2), "b": torch.zeros(2)})
    turned = dataclasses.replace(plan, planner_data=dict(reversed(list(plan.planner_data.items()))))
    assert plan == turned
    assert plan_cache.same_plan(plan, plan)
    assert not plan_cache.same_plan(plan, turned)
    assert originals.compare_save_plans(plan, turned)


OTHER_PROPERTIES = {
    "dtype": torch.float16,
    "layout": torch.sparse_coo,
    "requires_grad": True,
    "memory_format": torch.channels_last,
    "pin_memory": True,
}
PROPERTIES = [field.name for field in dataclasses.fields(TensorProperties)]


def changed(plan: SavePlan, change: Callable[[WriteItem], None]) -> SavePlan:
    """An upstream copy of a plan whose first item has changed."""
    plan = dataclasses.replace(plan, items=copy.deepcopy(list(plan.items)))
    change(plan.items[0])
    return plan


def put(path: str, value: Any) -> Callable[[WriteItem], None]:
    """Sets an attribute of a frozen item."""
    *way, name = path.split(".")

    def change(item: Any) -> None:
        for step in way:
            item = getattr(item, step)
        object.__setattr__(item, name, value)

    return change


@pytest.mark.parametrize("field", PROPERTIES)
def test_every_property_change_is_detected(field: str) -> None:
    plan = upstream_plan({"w": torch.zeros(4), "v": torch.zeros(4)})
    other = changed(plan, put(f"tensor_data.properties.{field}", OTHER_PROPERTIES.get(field, (7,))))
    assert originals.compare_save_plans(plan, other)
    for one, two in ((plan, other), (sent(plan), other), (plan, sent(other))):
        assert not plan_cache.same_plan(one, two)
        assert not plan_cache.same_plan(two, one)
    assert plan_cache.same_plan(sent(other), other)


SEEN_BY_UPSTREAM = {
    "type": put("type", WriteItemType.SHARD),
    "fqn": put("index", MetadataIndex("x", torch.Size([0]))),
    "offset": put("index", MetadataIndex("w", torch.Size([1]))),
    "no offset": put("index", MetadataIndex("w")),
    "chunk index": put("index", MetadataIndex("w", torch.Size([0]), 1)),
    "size": put("tensor_data.size", torch.Size([5])),
    "chunk offsets": put("tensor_data.chunk.offsets", torch.Size([1])),
    "chunk sizes": put("tensor_data.chunk.sizes", torch.Size([3])),
    "no chunk": put("tensor_data.chunk", None),
    "no tensor data": put("tensor_data", None),
}


def pairs() -> dict[str, tuple[SavePlan, SavePlan]]:
    plan = upstream_plan({"w": torch.zeros(4), "v": torch.zeros(2)})
    found = {name: (plan, changed(plan, change)) for name, change in SEEN_BY_UPSTREAM.items()}
    for field in PROPERTIES:
        other = put(f"tensor_data.properties.{field}", OTHER_PROPERTIES.get(field, (7,)))
        found[field] = (plan, changed(plan, other))
    for name, (before, after) in CHANGES.items():
        found[f"state dict: {name}"] = (upstream_plan(before), upstream_plan(after))
    found["equal"] = (plan, changed(plan, lambda item: None))
    found["usable"] = (plan, dataclasses.replace(plan, usable=False))
    found["an item fewer"] = (plan, dataclasses.replace(plan, items=plan.items[:1]))
    found["turned"] = (plan, dataclasses.replace(plan, items=plan.items[::-1]))
    found["none"] = (plan, SavePlan([]))
    found["storage_data"] = (plan, dataclasses.replace(plan, storage_data=3))
    return found


@pytest.mark.parametrize("name", pairs())
def test_compare_save_plans_is_upstreams(name: str) -> None:
    one, two = pairs()[name]
    ours = OURS.planner_helpers._compare_save_plans
    for a in (one, sent(one)):
        for b in (two, sent(two)):
            assert ours(a, b) is originals.compare_save_plans(one, two)
            assert ours(b, a) is originals.compare_save_plans(two, one)


def test_pairs_differ() -> None:
    """Checks that the pairs of the test above are different."""
    answers = {name: originals.compare_save_plans(*pair) for name, pair in pairs().items()}
    assert not any(answers[name] for name in SEEN_BY_UPSTREAM)
    assert answers["equal"] and all(answers[name] for name in PROPERTIES)


def of_module(implementation: Implementation, name: str) -> Any:
    """Returns a planner class named Planner, in a module of this name, that marks its metadata."""
    base = implementation.DefaultSavePlanner

    def create(self: Any, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        plans, metadata = base._create_global_plan(self, all_plans)
        return plans, dataclasses.replace(metadata, planner_data=name)

    body = {"__module__": name, "__qualname__": "Planner", "_create_global_plan": create}
    return type("Planner", (base,), body)


def test_classes_of_one_name_in_two_modules(implementation: Implementation) -> None:
    state = {"w": torch.zeros(4)}
    one, two = of_module(implementation, "one"), of_module(implementation, "two")
    assert steps(one(enable_plan_caching=True), state)[2].planner_data == "one"
    right = implementation is OURS
    assert steps(two(enable_plan_caching=True), state)[2].planner_data == (
        "two" if right else "one"
    )


def test_saves_that_alternate(implementation: Implementation) -> None:
    """Model and optimizer use one planner class: without a key, each evicts the other's plan."""
    model, optimizer = {"w": torch.zeros(4)}, {"w.exp_avg": torch.zeros(4), "step": 1}
    sends = [
        steps(caching(implementation), state)[0].usable
        for state in (model, optimizer, model, optimizer)
    ]
    assert sends == [True, True, True, True]


def test_saves_that_alternate_with_a_key_each() -> None:
    model, optimizer = {"w": torch.zeros(4)}, {"w.exp_avg": torch.zeros(4), "step": 1}
    for sends in (True, False, False):
        for key, state in (("model", model), ("optimizer", optimizer)):
            local, final, metadata = steps(caching(OURS, cache_key=key), state)
            assert local.usable is sends
            assert [item.index.fqn for item in final.items] == list(state)
            assert list(metadata.state_dict_metadata) == list(state)
    for name in CACHES:
        assert list(getattr(SavePlanner, name)) == ["model", "optimizer"]
    with pytest.raises(TypeError, match="cache_key"):
        caching(UPSTREAM, cache_key="model")


def test_nothing_is_cached_of_a_global_plan_that_is_invalid(implementation: Implementation) -> None:
    planner = caching(implementation)
    key, both = planner._cached_plans_key, [upstream_plan({"w": torch.zeros(4)})]
    both.append(upstream_plan({"v": torch.zeros(4)}))
    planner.create_global_plan(both)
    before = {name: getattr(SavePlanner, name)[key] for name in OF_ALL_RANKS}
    beyond = changed(both[0], put("tensor_data.chunk.sizes", torch.Size([9])))
    with pytest.raises(ValueError, match="Failed to validate global plan"):
        caching(implementation).create_global_plan([beyond, both[1]])
    assert SavePlanner._cached_global_plan[key] is before["_cached_global_plan"]
    right = implementation is OURS
    assert (SavePlanner._cached_all_plans[key] is before["_cached_all_plans"]) is right

    # Rank 0's plan is unchanged, and rank 1's is new: upstream still plans the invalid one.
    delta = [SavePlan([], usable=False), upstream_plan({"v": torch.zeros(6)})]
    if right:
        plans, metadata = caching(implementation).create_global_plan(delta)
        assert [plan.usable for plan in plans] == [False, True]
        assert metadata.state_dict_metadata["w"].chunks[0].sizes == torch.Size([4])
    else:
        with pytest.raises(ValueError, match="Failed to validate global plan"):
            caching(implementation).create_global_plan(delta)


OLD = {"w": torch.arange(4.0)}
NEW = {"w": torch.arange(4.0) + 1, "more": torch.arange(3.0)}


def test_old_state_after_a_failed_save(implementation: Implementation, tmp_path: Path) -> None:
    """The coordinator cached the plans of a save that no rank finished.

    If the ranks cached their plans of it too, they notice that these have changed.
    """
    save(caching(implementation), OLD, tmp_path / "1")
    save_failing(caching(implementation), NEW, tmp_path / "2")
    save(caching(implementation), OLD, tmp_path / "3")
    right = implementation is OURS or caches_unfinished_plans()
    assert holds(tmp_path / "3", OLD) is right
    if not right:
        # Upstream's checkpoint lists a tensor that nobody wrote.
        metadata = dcp.FileSystemReader(tmp_path / "3").read_metadata()
        assert "more" in metadata.state_dict_metadata
        assert "more" not in {index.fqn for index in metadata.storage_data}


def test_new_state_after_a_failed_save(implementation: Implementation, tmp_path: Path) -> None:
    save(caching(implementation), OLD, tmp_path / "1")
    save_failing(caching(implementation), NEW, tmp_path / "2")
    save(caching(implementation), NEW, tmp_path / "3")
    assert holds(tmp_path / "3", NEW) is (implementation is OURS)


def test_first_save_that_failed(implementation: Implementation, tmp_path: Path) -> None:
    """No rank has a cached plan; upstream sends each an unusable one that refers to the cache."""
    save_failing(caching(implementation), NEW, tmp_path / "1")
    if implementation is UPSTREAM:
        with pytest.raises(CheckpointException, match="KeyError"):
            save(caching(implementation), NEW, tmp_path / "2")
        return
    for folder in ("2", "3"):
        save(caching(implementation), NEW, tmp_path / folder)
        assert holds(tmp_path / folder, NEW)


def test_rank_that_sends_its_plan_gets_one(implementation: Implementation) -> None:
    """One of two ranks had not finished. It gets its plan although the coordinator cached it."""
    both = [upstream_plan({"w": torch.zeros(4)}), upstream_plan({"v": torch.zeros(4)})]
    caching(implementation).create_global_plan(both)
    again = [SavePlan([], usable=False), both[1]]
    plans, _ = caching(implementation).create_global_plan(again)
    assert [plan.usable for plan in plans] == [False, implementation is OURS]


def test_no_plan_for_an_empty_cache(implementation: Implementation, tmp_path: Path) -> None:
    """The cache is also empty where another rank coordinates this save."""
    options = {"flatten_state_dict": False}
    save(caching(implementation, **options), OLD, tmp_path / "1")
    for name in OF_ALL_RANKS:
        getattr(SavePlanner, name).clear()
    if implementation is UPSTREAM:
        metadata = save(caching(implementation, **options), OLD, tmp_path / "2")
        assert metadata.state_dict_metadata == {}
        return
    with pytest.raises(CheckpointException) as caught:
        save(caching(implementation, **options), OLD, tmp_path / "2")
    (error, _) = caught.value.failures[0]
    assert type(error) is RuntimeError
    assert "ranks [0] of 1 sent no plan" in str(error)
    save(caching(implementation, **options), OLD, tmp_path / "3")
    assert holds(tmp_path / "3", OLD)


@pytest.mark.parametrize(("cached", "absent"), [(0, [1, 2]), (2, [0]), (4, [0, 1, 2])], ids=str)
def test_error_names_the_ranks(cached: int, absent: list[int]) -> None:
    plans = [upstream_plan({f"w{rank}": torch.zeros(4)}) for rank in range(4)]
    if cached:
        caching(OURS).create_global_plan(plans[:cached])
    now = [SavePlan([], usable=False) if i in absent else plans[i] for i in range(3)]
    with pytest.raises(RuntimeError) as caught:
        caching(OURS).create_global_plan(now)
    assert f"ranks {absent} of 3 sent no plan" in str(caught.value)
    assert f"the coordinator has {cached} cached plans" in str(caught.value)


@pytest.mark.parametrize("stage", ["local", "every"])
def test_files_are_named_by_this_save(
    implementation: Implementation, tmp_path: Path, stage: str
) -> None:
    """The writer's prefix changes each time. It is set in the local plan or in the final plans."""
    names = []
    for name in ("one", "two", "three"):
        save(caching(implementation), OLD, tmp_path / name, **{stage: name})
        names.append([file.name for file in (tmp_path / name).glob("*.distcp")])
        assert holds(tmp_path / name, OLD)
    middle = "_" if stage == "local" else "0_"
    right = implementation is OURS
    expected = ("one", "two", "three") if right else ("one", "one", "one")
    assert names == [[f"{name}{middle}0.distcp"] for name in expected]


def test_no_storage_data_after_some(implementation: Implementation) -> None:
    """The storage data of a previous save must not be used with a storage that sets none."""
    planner = caching(implementation)
    planner.finish_plan(named(upstream_plan(OLD), "other"))
    final = caching(implementation).finish_plan(SavePlan([], usable=False))
    assert final.items == upstream_plan(OLD).items
    assert (final.storage_data is None) is (implementation is OURS)


def test_storage_data_of_unchanged_plans_reaches_the_ranks() -> None:
    both = [upstream_plan({"w": torch.zeros(4)}), upstream_plan({"v": torch.zeros(4)})]
    caching(OURS).create_global_plan(both)
    unchanged = [SavePlan([], storage_data=f"of {rank}", usable=False) for rank in range(2)]
    plans, _ = caching(OURS).create_global_plan(unchanged)
    assert plans == unchanged
    # Also in a save where the plan of another rank has changed.
    new = dataclasses.replace(upstream_plan({"v": torch.zeros(5)}), storage_data="new")
    plans, _ = caching(OURS).create_global_plan([unchanged[0], new])
    assert plans[0] == unchanged[0]
    assert (plans[1].usable, plans[1].storage_data) == (True, "new")


def is_lazy(plan: SavePlan) -> bool:
    columns: Any = plan.items.columns  # type: ignore[attr-defined]
    return columns is not None


def test_unchanged_save_creates_no_items_on_a_rank() -> None:
    state = {"w": torch.zeros(4), "n": {"deep": torch.zeros(2)}, "o": 3}
    for sends in (True, False, False):
        planner = caching(OURS)
        planner.set_up_planner(state, None, True)
        local = planner.create_local_plan()
        assert local.usable is sends
        assert is_lazy(planner.plan)
        (scattered,), _ = planner.create_global_plan([sent(local)])
        final = planner.finish_plan(sent(scattered))
        assert is_lazy(final)
        assert is_lazy(SavePlanner._cached_save_plan[planner._cached_plans_key])
        assert len(final.items) == 3


def test_unchanged_plans_create_no_items_on_the_coordinator() -> None:
    key = caching(OURS)._cached_plans_key
    states = [{"w": torch.zeros(4)}, {"v": torch.zeros(4)}, {"u": torch.zeros(4), "o": 3}]
    caching(OURS).create_global_plan([sent(upstream_plan(state)) for state in states])
    states[1] = {"v": torch.zeros(7)}
    for now in (
        [SavePlan([], usable=False)] * 3,
        [SavePlan([], usable=False), sent(upstream_plan(states[1])), SavePlan([], usable=False)],
    ):
        plans, metadata = caching(OURS).create_global_plan(now)
        assert [plan.usable for plan in plans] == [plan.usable for plan in now]
        for plan in (
            *SavePlanner._cached_all_plans[key],
            *SavePlanner._cached_global_plan[key],
            *(plan for plan in plans if plan.usable),
        ):
            assert is_lazy(plan)
        assert list(metadata.state_dict_metadata) == ["w", "v", "u", "o"]


def test_create_global_plan_of_a_subclass_is_called(implementation: Implementation) -> None:
    seen: list[int] = []

    class Counting(implementation.DefaultSavePlanner):  # type: ignore[name-defined]
        def _create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
            seen.append(sum(len(list(plan.items)) for plan in all_plans))
            plans, metadata = super()._create_global_plan(all_plans)
            return plans, dataclasses.replace(metadata, planner_data="mine")

    for state in (OLD, OLD, NEW, NEW):
        _, final, metadata = steps(Counting(enable_plan_caching=True), state)
        assert metadata.planner_data == "mine"
        assert [item.index.fqn for item in final.items] == list(state)
    assert seen == [1, 2]
