"""A plan's lazy list against a plain list, under any sequence of operations."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from parity.comparison import answer, assert_same
from parity.implementations import OURS
from shardplan.dcp.lazy.items import LazyList

INDEX = st.integers(-7, 7)
SLICE = st.builds(
    slice,
    st.one_of(st.none(), INDEX),
    st.one_of(st.none(), INDEX),
    st.one_of(st.none(), st.integers(-3, 3)),
)
EXTRA = st.lists(st.sampled_from(["x", "y", "z"]), max_size=3)


def name_of(item: Any) -> str:
    return item if isinstance(item, str) else str(item.index.fqn)


class ItemListMachine(RuleBasedStateMachine):
    """`ours` is lazy; `plain` is the expected list of equal items."""

    ours: LazyList
    plain: list[Any]

    @initialize(count=st.integers(0, 5))
    def make(self, count: int) -> None:
        state_dict = {f"w{i}": torch.zeros(i) for i in range(count)}
        plan = OURS.default_planner.create_default_local_save_plan
        items = plan(state_dict, True).items
        assert isinstance(items, LazyList)
        self.ours = items
        self.alias = items
        self.plain = list(plan(state_dict, True).items)

    def both(self, operation: Callable[[list[Any]], Any]) -> None:
        assert_same(answer(operation, self.ours), answer(operation, self.plain))

    @invariant()
    def same_length_and_truth(self) -> None:
        if hasattr(self, "ours"):
            assert len(self.ours) == len(self.plain)
            assert bool(self.ours) == bool(self.plain)
            assert isinstance(self.ours, list)
            assert self.ours is self.alias

    @rule()
    def iterate(self) -> None:
        self.both(lambda items: [name_of(item) for item in items])

    @rule()
    def reverse_iterate(self) -> None:
        self.both(lambda items: [name_of(item) for item in reversed(items)])

    @rule(index=INDEX)
    def get(self, index: int) -> None:
        self.both(lambda items: items[index])

    @rule(index=INDEX)
    def identity_is_kept(self, index: int) -> None:
        if -len(self.plain) <= index < len(self.plain):
            assert self.ours[index] is self.ours[index]

    @rule(part=SLICE)
    def get_slice(self, part: slice) -> None:
        self.both(lambda items: items[part])

    @rule(index=INDEX, value=st.sampled_from("xyz"))
    def set(self, index: int, value: str) -> None:
        self.both(lambda items: items.__setitem__(index, value))

    @rule(part=SLICE, values=EXTRA)
    def set_slice(self, part: slice, values: list[str]) -> None:
        self.both(lambda items: items.__setitem__(part, values))

    @rule(index=INDEX)
    def delete(self, index: int) -> None:
        self.both(lambda items: items.__delitem__(index))

    @rule(part=SLICE)
    def delete_slice(self, part: slice) -> None:
        self.both(lambda items: items.__delitem__(part))

    @rule(value=st.sampled_from("xyz"))
    def append(self, value: str) -> None:
        self.both(lambda items: items.append(value))

    @rule(values=EXTRA)
    def extend(self, values: list[str]) -> None:
        self.both(lambda items: items.extend(values))

    @rule(index=INDEX, value=st.sampled_from("xyz"))
    def insert(self, index: int, value: str) -> None:
        self.both(lambda items: items.insert(index, value))

    @rule(index=st.one_of(st.none(), INDEX))
    def pop(self, index: int | None) -> None:
        self.both(lambda items: items.pop() if index is None else items.pop(index))

    @rule(index=INDEX)
    def remove(self, index: int) -> None:
        if self.plain:
            wanted = self.plain[index % len(self.plain)]
            self.both(lambda items: items.remove(wanted))

    @rule(value=st.sampled_from("xyz"))
    def count_and_index(self, value: str) -> None:
        self.both(lambda items: items.count(value))
        self.both(lambda items: items.index(value))
        self.both(lambda items: value in items)

    @rule()
    def sort(self) -> None:
        self.both(lambda items: items.sort(key=name_of))

    @rule()
    def sorted_copy(self) -> None:
        self.both(lambda items: sorted(items, key=name_of, reverse=True))

    @rule()
    def reverse(self) -> None:
        self.both(lambda items: items.reverse())

    @rule()
    def clear(self) -> None:
        self.both(lambda items: items.clear())

    @rule(values=EXTRA)
    def add(self, values: list[str]) -> None:
        self.both(lambda items: items + values)

    @rule(values=EXTRA)
    def add_in_place(self, values: list[str]) -> None:
        self.ours += values
        self.plain += values

    @rule(times=st.integers(-1, 2))
    def repeat(self, times: int) -> None:
        self.both(lambda items: items * times)
        self.both(lambda items: times * items)

    @rule(times=st.integers(0, 2))
    def repeat_in_place(self, times: int) -> None:
        if len(self.plain) < 20:
            self.ours *= times
            self.plain *= times

    @rule()
    def compare(self) -> None:
        assert self.ours == self.plain
        assert self.plain == self.ours
        assert not self.ours != self.plain  # noqa: SIM202
        self.both(lambda items: items == ["x"])
        self.both(lambda items: items < ["x"])

    @rule()
    def show(self) -> None:
        self.both(repr)
        self.both(str)

    @rule()
    def copies(self) -> None:
        self.both(lambda items: items.copy())
        self.both(lambda items: list(copy.copy(items)))
        self.both(lambda items: list(copy.deepcopy(items)))
        self.both(lambda items: pickle.loads(pickle.dumps(items)))

    @rule()
    def unpack(self) -> None:
        self.both(lambda items: [*items])
        self.both(lambda items: list(zip(items, items, strict=True)))
        self.both(lambda items: [name for name, _ in enumerate(items)])
        self.both(lambda items: max(items, key=name_of))
        self.both(lambda items: list(filter(None, items)))

    @rule()
    def rebuild(self) -> None:
        self.both(lambda items: list(type(items)(items)))


# A sequence of fifteen operations is long enough to access, change and read again.
TestItemList = ItemListMachine.TestCase
TestItemList.settings = settings(stateful_step_count=15)
