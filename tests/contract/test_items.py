"""Row 1 of the contract: plan.items is a real list, lazy until its first access."""

from __future__ import annotations

import copy
import dataclasses
import heapq
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import ReadItem, WriteItem

from parity.boxes import row_chunks, tensor_metadata
from parity.implementations import OURS
from shardplan.dcp.lazy.items import LazyList
from shardplan.dcp.upstream import originals

NAMES = ["b", "a", "c"]


def state_dict() -> dict[str, Any]:
    return {"b": torch.zeros(4), "a": torch.zeros(()), "c": 3}


def save_items() -> LazyList:
    items = OURS.default_planner.create_default_local_save_plan(state_dict(), True).items
    assert isinstance(items, LazyList)
    return items


def upstream_items() -> list[WriteItem]:
    return list(originals.create_default_local_save_plan(state_dict(), True).items)


def load_items() -> LazyList:
    metadata = Metadata({"w": tensor_metadata((6,), row_chunks(6, 3))})
    plan = OURS.default_planner.create_default_local_load_plan({"w": torch.zeros(6)}, metadata)
    assert isinstance(plan.items, LazyList)
    return plan.items


def names(items: Any) -> list[str]:
    return [item.index.fqn for item in items]


def is_lazy(items: LazyList) -> bool:
    return items.columns is not None


def test_it_is_a_list_of_upstream_items() -> None:
    assert isinstance(save_items(), list)
    assert {type(item) for item in save_items()} == {WriteItem}
    assert {type(item) for item in load_items()} == {ReadItem}


def test_len_and_bool_do_not_materialize() -> None:
    for items in (save_items(), load_items()):
        assert len(items) == 3
        assert bool(items)
        assert items != []
    items = save_items()
    assert len(items) == 3
    assert is_lazy(items)
    empty = OURS.default_planner.create_default_local_save_plan({}, True).items
    assert len(empty) == 0
    assert not empty


def test_an_item_keeps_its_identity() -> None:
    items = save_items()
    first = items[0]
    assert items[0] is first
    assert next(iter(items)) is first
    assert items.copy()[0] is first
    assert (items + [])[0] is first  # noqa: RUF005


ACCESSES: dict[str, Callable[[Any], Any]] = {
    "iterate": names,
    "index": lambda items: items[1].index.fqn,
    "negative index": lambda items: items[-1].index.fqn,
    "slice": lambda items: names(items[1:]),
    "plus": lambda items: names(items + items),
    "times": lambda items: names(items * 2),
    "sorted": lambda items: names(sorted(items, key=lambda item: item.index.fqn)),
    "zip": lambda items: [a.index.fqn for a, _ in zip(items, items, strict=True)],
    "enumerate": lambda items: [(i, item.index.fqn) for i, item in enumerate(items)],
    "reversed": lambda items: names(reversed(items)),
    "list": lambda items: names(list(items)),
    "tuple": lambda items: names(tuple(items)),
    "unpack": lambda items: names([*items]),
    "map": lambda items: list(map(lambda item: item.index.fqn, items)),
    "filter": lambda items: names(filter(None, items)),
    "copy": lambda items: names(copy.copy(items)),
    "deepcopy": lambda items: names(copy.deepcopy(items)),
    "pickle": lambda items: names(pickle.loads(pickle.dumps(items))),
    "type of itself": lambda items: names(type(items)(items)),
    "type of a generator": lambda items: names(type(items)(item for item in items)),
    "repr": repr,
    "equality": lambda items: items == upstream_items(),
    "equality, other side": lambda items: upstream_items() == items,
    "inequality": lambda items: items != upstream_items(),
    "membership": lambda items: upstream_items()[1] in items,
    "count": lambda items: items.count(upstream_items()[0]),
    "position": lambda items: items.index(upstream_items()[2]),
    "pop": lambda items: (items.pop().index.fqn, names(items)),
    "remove": lambda items: (items.remove(upstream_items()[0]), names(items)),
    "reverse": lambda items: (items.reverse(), names(items)),
    "sort": lambda items: (items.sort(key=lambda item: item.index.fqn), names(items)),
    "insert": lambda items: (items.insert(1, items[0]), names(items)),
    "delete": lambda items: (items.__delitem__(0), names(items)),
    "set item": lambda items: (items.__setitem__(0, items[2]), names(items)),
    "set slice": lambda items: (items.__setitem__(slice(0, 2), []), names(items)),
    "clear": lambda items: (items.clear(), names(items)),
    "extend": lambda items: (items.extend(upstream_items()), names(items)),
    "extend of another": lambda items: names([].__iadd__(items)),  # type: ignore[operator]
    "sum of lists": lambda items: names(sum([items[:1], items[1:]], [])),  # noqa: RUF017
    "max": lambda items: max(items, key=lambda item: item.index.fqn).index.fqn,
    "star assignment": lambda items: [first.index.fqn for first, *_ in [items]],
}


@pytest.mark.parametrize("access", ACCESSES.values(), ids=ACCESSES)
def test_it_behaves_like_a_list(access: Callable[[Any], Any]) -> None:
    assert access(save_items()) == access(upstream_items())


PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "equality": lambda a, b: a == b,
    "inequality": lambda a, b: a != b,
    "order": lambda a, b: a[:0] < b,
    "plus": lambda a, b: names(a + b),
    "in-place plus": lambda a, b: (a.__iadd__(b), names(a)),
    "extend": lambda a, b: (a.extend(b), names(a)),
    "set slice": lambda a, b: (a.__setitem__(slice(1, 2), b), names(a)),
    "zip": lambda a, b: [x == y for x, y in zip(a, b, strict=True)],
}


@pytest.mark.parametrize("use", PAIRS.values(), ids=PAIRS)
def test_two_lazy_lists(use: Callable[[Any, Any], Any]) -> None:
    assert use(save_items(), save_items()) == use(upstream_items(), upstream_items())


def test_extending_an_upstream_list_takes_every_item() -> None:
    upstream: list[Any] = ["first"]
    alias = upstream
    upstream += save_items()
    assert alias is upstream
    assert names(upstream[1:]) == NAMES
    upstream.extend(save_items())
    assert names(upstream[4:]) == NAMES
    upstream[:0] = save_items()
    assert names(upstream[:3]) == NAMES


def test_in_place_plus_keeps_the_alias() -> None:
    items = save_items()
    alias = items
    items += upstream_items()
    assert alias is items
    assert names(alias) == NAMES * 2


BYPASSES: dict[str, Callable[[LazyList], Any]] = {
    "heapq.heapify": heapq.heapify,
    "heapq.heappush": lambda items: heapq.heappush(items, upstream_items()[0]),
    "heapq.heappushpop": lambda items: heapq.heappushpop(items, upstream_items()[0]),
    "list.sort": lambda items: list.sort(items, key=lambda item: item.index.fqn),
    "list.__add__": lambda items: names([] + items),  # noqa: RUF005
    "list.copy": lambda items: names(list.copy(items)),
    "list.__iter__": lambda items: names(list.__iter__(items)),
    "list.__getitem__": lambda items: list.__getitem__(items, 0).index.fqn,
    "list.__contains__": lambda items: list.__contains__(items, upstream_items()[0]),
    "list.index": lambda items: list.index(items, upstream_items()[0]),
    "list.pop": lambda items: list.pop(items).index.fqn,
}


@pytest.mark.parametrize("bypass", BYPASSES.values(), ids=BYPASSES)
def test_c_code_that_reads_its_slots_fails_loudly(bypass: Callable[[LazyList], Any]) -> None:
    with pytest.raises(TypeError, match=r"C code read a lazy list .* before it was materialized"):
        bypass(save_items())


@pytest.mark.parametrize(
    "use",
    [
        lambda item: item.index,
        lambda item: item == item,
        lambda item: isinstance(item, WriteItem),
        lambda item: hash(item),
        lambda item: bool(item),
        lambda item: pickle.dumps(item),
        lambda item: copy.deepcopy(item),
        lambda item: copy.copy(item),
        lambda item: sorted([item, item]),
        lambda item: dataclasses.replace(item),
        lambda item: list(item),
        lambda item: len(item),
        lambda item: setattr(item, "index", 1),
    ],
    ids=[
        "attribute",
        "equality",
        "isinstance",
        "hash",
        "truth",
        "pickle",
        "deepcopy",
        "copy",
        "order",
        "replace",
        "iterate",
        "length",
        "assignment",
    ],
)
def test_placeholders_cannot_be_used(use: Callable[[Any], Any]) -> None:
    placeholder = list.__getitem__(save_items(), 0)
    with pytest.raises((TypeError, AttributeError)):
        use(placeholder)


def test_resizing_by_c_code_is_detected() -> None:
    items = save_items()
    list.append(items, "stray")
    with pytest.raises(RuntimeError, match="C code resized a lazy list"):
        items[0]


def test_threads_materialize_it_once() -> None:
    class SlowColumns:
        """Columns that count how often their items are created."""

        def __init__(self) -> None:
            self.made = 0
            self.someone_waits = threading.Event()

        def __len__(self) -> int:
            return 3

        def items(self) -> list[Any]:
            self.made += 1
            self.someone_waits.wait(0.2)
            return [object(), object(), object()]

    columns = SlowColumns()
    items = LazyList.from_columns(columns)
    seen: list[list[Any]] = []
    start = threading.Barrier(8)

    def access() -> None:
        start.wait()
        seen.append(list(items))

    threads = [threading.Thread(target=access) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert columns.made == 1
    assert len(seen) == 8
    assert all(a is b for found in seen for a, b in zip(found, seen[0], strict=True))


def test_an_error_while_materializing_is_raised_at_every_access() -> None:
    class Failing:
        def __len__(self) -> int:
            return 2

        def items(self) -> list[Any]:
            raise MemoryError("no room")

    items = LazyList.from_columns(Failing())
    for _ in range(2):
        with pytest.raises(MemoryError, match="no room"):
            items[0]
    assert len(items) == 2


def test_changes_to_a_materialized_list_are_sent() -> None:
    plan = OURS.default_planner.create_default_local_save_plan(state_dict(), True)
    plan.items[0].tensor_data.properties.dtype = torch.float16
    del plan.items[1]
    received = pickle.loads(pickle.dumps(plan))
    assert names(received.items) == ["b", "c"]
    assert received.items[0].tensor_data.properties.dtype is torch.float16


def test_type_of_a_plan_can_be_called_with_any_iterable() -> None:
    items = save_items()
    kind = type(items)
    assert kind() == []
    assert kind("ab") == ["a", "b"]
    assert kind(iter(items)) == items
    assert [*kind(items), *kind(items)] == items + items


def test_it_cannot_be_hashed() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(save_items())


def test_it_pickles_as_a_list() -> None:
    received = pickle.loads(pickle.dumps(save_items()))
    assert type(received) is list
    assert received == upstream_items()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(save_items(), protocol)) == upstream_items()
