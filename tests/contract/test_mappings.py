"""The planner_data of a received plan is a lazy dict; those of several plans are merged."""

from __future__ import annotations

import collections
import copy
import dataclasses
import json
import operator
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.planner import SavePlan

from parity.comparison import assert_same
from parity.implementations import OURS, UPSTREAM, Implementation
from parity.travel import sent, sent_upstream
from shardplan.dcp.lazy.path_mappings import LazyDict, merge

PATHS: dict[Any, Any] = {
    "model.0.weight": ("model", 0, "weight"),
    "model.1.weight": ("model", 1, "weight"),
    "model.0.b.ias": ("model", "0", "b.ias"),
    "step": ("step",),
    "step.": ("step", ""),
    "": ("",),
    "-3.ключ": (-3, "ключ"),
    "a.b.c": ("a.b.c",),
}


def plan_with(planner_data: Any) -> SavePlan:
    plan = OURS.default_planner.create_default_local_save_plan(
        {"step": 1, "w": torch.ones(2)}, True
    )
    return dataclasses.replace(plan, planner_data=planner_data)


def received() -> dict[Any, Any]:
    found = sent(plan_with(PATHS)).planner_data
    assert type(found) is LazyDict
    assert found.source is not None
    return found


READS: dict[str, Callable[[Any], Any]] = {
    "len": len,
    "truth": bool,
    "keys": lambda data: list(data),
    "keys backwards": lambda data: list(reversed(data)),
    "keys method": lambda data: list(data.keys()),
    "items": lambda data: list(data.items()),
    "values": lambda data: list(data.values()),
    "dict": dict,
    "stars": lambda data: {**data},
    "keywords": lambda data: dict(**data),
    "get": lambda data: (data.get("step"), data.get("none"), data.get("none", 3)),
    "index": lambda data: data["model.1.weight"],
    "in": lambda data: ("step" in data, "none" in data),
    "equal": lambda data: [operator.eq(*pair) for pair in ((data, PATHS), (PATHS, data))],
    "unequal": lambda data: [operator.ne(*pair) for pair in ((data, {}), ({}, data))],
    "or": lambda data: dict(data | {"more": ()}),
    "or of another": lambda data: dict({"more": ()} | data),
    "update of another": lambda data: (found := {"more": ()}, found.update(data))[0],
    "chain map": lambda data: dict(collections.ChainMap({"more": ()}, data)),
    "ordered dict": lambda data: list(collections.OrderedDict(data).items()),
    "set": lambda data: sorted(set(data)),
    "repr": repr,
    "sorted": lambda data: sorted(data.items(), key=str),
    "copy": lambda data: dict(copy.copy(data)),
    "copy method": lambda data: dict(data.copy()),
    "deepcopy": lambda data: dict(copy.deepcopy(data)),
    "pickle": lambda data: pickle.loads(pickle.dumps(data)),
    "json": lambda data: json.dumps(data, indent=1),
    "format": lambda data: "{step}".format_map(data),
    "pop": lambda data: (data.pop("step"), dict(data)),
    "popitem": lambda data: (data.popitem(), dict(data)),
    "set item": lambda data: (data.__setitem__("step", 1), dict(data)),
    "del item": lambda data: (data.__delitem__("step"), dict(data)),
    "setdefault": lambda data: (data.setdefault("step", 1), data.setdefault("x", 1), dict(data)),
    "update": lambda data: (data.update({"step": 2, "y": 3}), dict(data)),
    "in-place or": lambda data: (data.__ior__({"step": 2}), dict(data))[1],
    "clear": lambda data: (data.clear(), dict(data), len(data)),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_it_behaves_like_a_dict(read: Callable[[Any], Any]) -> None:
    expected = dict(PATHS)
    assert_same(read(received()), read(expected))
    assert isinstance(received(), dict)


def test_it_is_written_as_json() -> None:
    assert json.dumps(received()) == json.dumps(PATHS)


def test_plans_do_not_share_it() -> None:
    first, second = sent([plan_with(PATHS), plan_with(PATHS)])
    first.planner_data["step"] = ("other",)
    del first.planner_data["a.b.c"]
    assert second.planner_data == PATHS
    assert sent(first).planner_data == first.planner_data
    assert sent(second).planner_data == PATHS
    assert list(sent(first).planner_data) == [key for key in PATHS if key != "a.b.c"]
    second.planner_data.clear()
    assert sent(second).planner_data == {}


def test_an_upstream_pickle_holds_an_exact_dict() -> None:
    assert_same(pickle.loads(pickle.dumps(sent(plan_with(PATHS)))), sent_upstream(plan_with(PATHS)))
    materialized = sent(plan_with(PATHS))
    materialized.planner_data["x"] = ("x",)
    assert type(pickle.loads(pickle.dumps(materialized)).planner_data) is dict
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert_same(pickle.loads(pickle.dumps(received(), protocol)), PATHS)


@pytest.mark.parametrize(
    "planner_data",
    [
        None,
        {},
        PATHS,
        {"a": ("b",)},
        {"a": ["a"]},
        {"a": "a"},
        {"a": ()},
        {"a.1": ("a", True)},
        {"a.1.0": ("a", 1.0)},
        {3: (3,)},
        {"\ud800": ("\ud800",)},
        {"a.00": ("a", 0)},
        {f"a.{2**70}": ("a", 2**70)},
        {"x" * 3000: ("x" * 3000,)},
        {"a": ("a",), "b": None},
        collections.OrderedDict(a=("a",)),
        ["a"],
        "per-rank-data",
        {"a": {"b": ("c",)}},
    ],
    ids=lambda value: repr(value)[:30],
)
def test_planner_data_of_any_kind_is_received(planner_data: Any) -> None:
    for plan in (plan_with(planner_data), SavePlan([], planner_data=planner_data)):
        for found in (sent(plan), sent(sent(plan))):
            assert isinstance(found.planner_data, type(planner_data))
            assert_same(sent_upstream(found).planner_data, planner_data)


def test_threads_materialize_it_once() -> None:
    data = received()
    seen: list[Any] = []
    start = threading.Barrier(8)

    def access() -> None:
        start.wait()
        seen.append(list(data.items()))

    threads = [threading.Thread(target=access) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [list(PATHS.items())] * 8


def check_merge(make: Callable[[], list[Any]]) -> None:
    expected = dict(collections.ChainMap(*make()))
    found = merge(make())
    assert_same(found, expected)
    assert [type(key) for key in found] == [type(key) for key in expected]


MERGES: dict[str, Callable[[], list[Any]]] = {
    "none": list,
    "one": lambda: [{"b": 1, "a": 2}],
    "alike": lambda: [{"b": 1, "a": 2}] * 3,
    "in another order": lambda: [{"b": 1, "a": 2}, {"a": 3, "b": 4}],
    "one twice around another": lambda: [
        (one := {"a": 1, "b": 1}),
        {"b": 2, "c": 2},
        one,
        {"a": 3, "d": 3},
    ],
    "empty ones": lambda: [{}, {"a": 1}, {}],
    "keys that are equal": lambda: [{1: "int"}, {True: "bool"}, {1.0: "float"}],
    "received": lambda: [received(), received()],
    "received and not": lambda: [{"z": 1, "step": 2}, received(), {"step": 3}, received(), {"": 4}],
    "ordered dicts": lambda: [collections.OrderedDict(a=1), {"b": 2, "a": 3}],
    "another mapping": lambda: [collections.UserDict(a=1), {"b": 2}],
}


@pytest.mark.parametrize("make", MERGES.values(), ids=MERGES)
def test_merge(make: Callable[[], list[Any]]) -> None:
    check_merge(make)


class WithDefaults(dict):  # type: ignore[type-arg]
    """A dict that returns a value for every key."""

    def __missing__(self, key: object) -> str:
        return f"no {key}"


@pytest.mark.parametrize("make", [lambda: collections.defaultdict(int), WithDefaults])
def test_merge_of_a_dict_with_defaults(make: Callable[[], Any]) -> None:
    check_merge(lambda: [make(), {"a": 1}])


def test_merge_does_not_materialize_and_returns_a_new_dict() -> None:
    data = [received(), received()]
    merged = merge(data)
    merged.clear()
    assert all(each.source is not None for each in data)  # type: ignore[attr-defined]
    assert merge(data) == PATHS


@pytest.mark.parametrize("kind", [UPSTREAM, OURS], ids=str)
@pytest.mark.parametrize("broken", [None, 3, "text", [("a", 1)]], ids=repr)
def test_planner_data_that_is_not_a_dict(kind: Implementation, broken: Any) -> None:
    """The planner fails as upstream's does."""
    planner = kind.DefaultSavePlanner()
    planner.set_up_planner({"step": 1}, None, True)
    plan = planner.create_local_plan()
    plans = [plan, dataclasses.replace(plan, planner_data=broken)]
    expected = pytest.raises((TypeError, AttributeError))
    with expected as raised:
        dict(collections.ChainMap({}, broken))
    with pytest.raises(raised.type) as found:
        planner.create_global_plan(plans)
    assert str(found.value) == str(raised.value)
