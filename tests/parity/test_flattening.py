"""``flatten_state_dict`` and ``_flatten_sharded_tensors``, against upstream's."""

from __future__ import annotations

import collections
import gc
import inspect
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.checkpoint import default_planner
from torch.distributed.tensor import DTensor, Shard

import shardplan
from benchmarks.workloads import world
from parity.worlds import sharded_tensor_of
from shardplan.dcp import fallbacks
from shardplan.dcp.planners import coordinator
from shardplan.dcp.twins import state_dicts
from shardplan.dcp.upstream import originals

Function = Callable[[Any], Any]
FLATTEN: tuple[Function, Function] = (
    state_dicts.flatten_state_dict,
    originals.flatten_state_dict,
)
COPY: tuple[Function, Function] = (
    state_dicts._flatten_sharded_tensors,
    originals.flatten_sharded_tensors,
)


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    fallbacks.clear()
    yield
    fallbacks.clear()


def shape_of(value: Any) -> Any:
    """Returns what a caller sees of a result: order, types, and which object each value is."""
    if type(value) is dict:
        return {"dict": [(type(key), key, shape_of(item)) for key, item in value.items()]}
    if type(value) in (list, tuple):
        return {type(value): [shape_of(item) for item in value]}
    return (type(value), value) if isinstance(value, str | int) else id(value)


def check(state_dict: Any, given: Callable[[Any], Any] = lambda state_dict: state_dict) -> None:
    """Compares the functions. Each gets ``given(state_dict)``."""
    for ours, upstream in (FLATTEN, COPY):
        outcomes = []
        for function in (ours, upstream):
            try:
                outcomes.append(shape_of(function(given(state_dict))))
            except Exception as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]


TENSOR = torch.zeros(2)


class Text(str):
    """A str of another class, which is a key as it is a str."""

    def __str__(self) -> str:
        return self + "!"


class Wraps(collections.UserDict[Any, Any]):
    pass


class Listed(list[Any]):
    pass


class Itemless:
    pass


class Odd(collections.UserDict[Any, Any]):
    """A mapping whose items are no pairs."""

    def items(self) -> Any:
        return [(1, 2, 3)]


CASES: dict[str, Any] = {
    "empty": {},
    "flat": {"a": TENSOR, "b": 1, "c": None, "d": "text"},
    "nested": {"a": {"b": {"c": TENSOR}}, "d": {}, "e": {"f": {}, "g": 1}},
    "lists": {"a": [1, 2], "b": [TENSOR], "c": [{}], "d": [[1], [TENSOR]], "e": [], "f": [[], [1]]},
    "sparse lists": {"a": [{}, TENSOR, {}, [{}, {"x": 1}]], "b": [{}, {"y": [TENSOR, {}]}]},
    "tuples": {"a": (TENSOR, {"x": 1}), "b": [(TENSOR,)], "c": ({},)},
    "int keys": {0: {1: TENSOR}, 2: [TENSOR]},
    "other keys": {None: 1, (1, 2): TENSOR, 1.5: {True: 2}},
    "keys of a str class": {Text("a"): {Text("b"): TENSOR}, "c": {Text("d"): 1}},
    "not ascii": {"ä": {"\U0001f600": TENSOR}, "\ud800": {"x": 1}},
    "mappings": {
        "a": collections.OrderedDict(x=TENSOR, y={}),
        "b": Wraps({"x": Wraps({"y": 1})}),
        "c": types.MappingProxyType({"x": 1}),
        "d": collections.defaultdict(int, x=TENSOR),
        "e": collections.Counter("aab"),
        "f": collections.ChainMap({"x": 1}, {"y": TENSOR}),
    },
    "moved": {"a": collections.OrderedDict(x=1, y=2, z=TENSOR)},
    "list class": {"a": Listed([TENSOR, 1]), "b": Listed([1])},
    "objects": {"a": object(), "b": Itemless(), "c": torch.Size([1]), "d": {1, 2}, "e": b"x"},
    "parameter": {"a": torch.nn.Parameter(TENSOR), "b": [torch.nn.Parameter(TENSOR)]},
    "same name": {"a": {"b": 1}, "a.b": 2},
    "same name of a list": {"a": [TENSOR], "a.0": 2},
    "same name, surrogate": {"\ud800": {"b": 1}, "\ud800.b": 2},
    "same key": {1: TENSOR, "1": {"x": 1}},
    "same key, merged": {1: {"a": 1}, "1": {"b": 2}},
    "same key, value first": {"1": [1, 2], 1: {"b": 2}},
    "same key, list and dict": {"1": {"0": TENSOR}, 1: [TENSOR]},
    "not a mapping": [("a", 1)],
    "a mapping": Wraps({"a": {"b": TENSOR}}),
    "odd items": {"a": Odd()},
    "odd items at the top": Odd(),
}
CASES["moved"]["a"].move_to_end("x")


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    check(CASES[name])


KEYS = st.one_of(st.sampled_from(["a", "b", "a.b", "", "0", "1"]), st.integers(0, 2))
LEAVES = st.sampled_from([TENSOR, 1, "text", None, (TENSOR,), torch.nn.Parameter(torch.ones(1))])


def _containers(children: Any) -> Any:
    return st.one_of(
        st.dictionaries(KEYS, children, max_size=4),
        st.lists(children, max_size=4),
        st.dictionaries(KEYS, children, max_size=3).map(collections.OrderedDict),
        st.dictionaries(KEYS, children, max_size=3).map(Wraps),
        st.lists(children, max_size=3).map(tuple),
    )


def with_own_lists(value: Any) -> Any:
    """Copies the lists of a state dict: if two values share a path, upstream changes them."""
    if type(value) is list:
        return [with_own_lists(item) for item in value]
    if type(value) in (dict, collections.OrderedDict, Wraps):
        return type(value)((key, with_own_lists(item)) for key, item in value.items())
    return value


@settings(max_examples=600, deadline=None)
@given(st.dictionaries(KEYS, st.recursive(LEAVES, _containers, max_leaves=12), max_size=5))
def test_random_state_dicts(state_dict: dict[Any, Any]) -> None:
    check(state_dict, with_own_lists)


def test_a_path_of_a_list_and_of_what_is_in_it() -> None:
    """Upstream puts the tensor into the caller's list."""
    check({1: {0: TENSOR}, "1": {"0": [], 0: [TENSOR]}}, with_own_lists)


def test_sharded_tensors_and_dtensors() -> None:
    with world(1, 4):
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (4,))
        local = DTensor.from_local(torch.zeros(2, 3), mesh, [Shard(0)], run_check=False)
        sharded = sharded_tensor_of((4, 3), [((2, 0), (2, 3), 1), ((0, 0), (2, 3), 0)])
        without = sharded_tensor_of((2, 3), [((0, 0), (2, 3), 0)])
        check({"a": {"b": sharded, "c": local}, "d": [without, sharded], "e": without})
    assert not shardplan.fallbacks()


def test_a_sharded_tensor_in_another_one_is_left_to_upstream() -> None:
    with world(1, 4):
        inner = sharded_tensor_of((2, 3), [((0, 0), (2, 3), 1)])
        outer = sharded_tensor_of((4, 3), [((2, 0), (2, 3), 1), ((0, 0), (2, 3), 0)])
        outer.local_shards()[0].tensor = inner
        flattened = [function({"a": {"x": outer}})["a"]["x"] for function in COPY]
    for each in flattened:
        (shard,) = each.local_shards()
        assert shard.tensor is inner.local_shards()[0].tensor
    assert flattened[0].metadata() == flattened[1].metadata()
    assert sum(shardplan.fallbacks().values()) == 1


def test_a_dict_in_itself() -> None:
    state_dict: dict[str, Any] = {"a": TENSOR}
    state_dict["self"] = state_dict
    check(state_dict)
    with pytest.raises(RecursionError):
        state_dicts.flatten_state_dict(state_dict)


def test_a_mapping_that_changes_while_it_is_read() -> None:
    class Changes:
        def __init__(self, owner: dict[Any, Any]) -> None:
            self.owner = owner

        def __str__(self) -> str:
            self.owner["more"] = 1
            return "key"

    for function in (*FLATTEN, *COPY):
        state_dict: dict[Any, Any] = {}
        state_dict[Changes(state_dict)] = 1
        state_dict["last"] = 2
        with pytest.raises(RuntimeError, match="changed size during iteration"):
            function(state_dict)


def test_exceptions_of_mappings() -> None:
    class Fails(collections.UserDict[Any, Any]):
        def items(self) -> Any:
            yield "a", 1
            raise KeyError("mine")

    for function in (*FLATTEN, *COPY):
        with pytest.raises(KeyError, match="mine"):
            function({"x": Fails()})


def test_nothing_leaks() -> None:
    class Value:
        pass

    value = Value()
    seen = weakref.ref(value)
    tensor = torch.zeros(1)
    before = sys.getrefcount(tensor)
    for function in (FLATTEN[0], COPY[0]):
        for _ in range(100):
            function({"a": [{}, tensor, {"v": value}], "b": {0: tensor}, "c": tensor})
    del value
    gc.collect()
    assert seen() is None
    assert sys.getrefcount(tensor) == before


def test_the_keys_of_torch_2_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_dicts._version, "_derived_version", "2_3")
    check({"a": {"b": 1}, "c": {"d": TENSOR}})


@pytest.mark.parametrize(("ours", "upstream"), [FLATTEN, COPY])
def test_signatures(ours: Function, upstream: Function) -> None:
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(upstream).parameters)
    assert ours.__name__ == upstream.__name__


@pytest.mark.parametrize("name", ["flatten_state_dict", "_flatten_sharded_tensors"])
def test_a_function_of_a_caller_is_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = getattr(default_planner, name)

    def mine(state_dict: Any) -> Any:
        seen.append(name)
        return real(state_dict)

    monkeypatch.setattr(default_planner, name, mine)
    assert coordinator.current(getattr(state_dicts, name)) is mine
    shardplan.DefaultSavePlanner().set_up_planner({"a": {"b": TENSOR}})
    shardplan.DefaultLoadPlanner().set_up_planner({"a": {"b": TENSOR}})
    assert seen == [name] * 2


def test_registered_planners_flatten_natively() -> None:
    shardplan.register()
    try:
        assert default_planner.flatten_state_dict is state_dicts.flatten_state_dict
        assert default_planner._flatten_sharded_tensors is state_dicts._flatten_sharded_tensors
    finally:
        shardplan.unregister()
    assert default_planner.flatten_state_dict is originals.flatten_state_dict
