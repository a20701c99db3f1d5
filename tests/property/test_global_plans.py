"""Drawn plans on drawn ranks, in drawn forms: dedup, global plan, wire and mappings as upstream."""

from __future__ import annotations

import collections
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint.planner import SavePlan, WriteItem

from parity.comparison import Raised, answer, assert_same
from parity.implementations import OURS
from parity.save_items import UNUSUAL_ITEMS, bytes_item, tensor_item
from parity.travel import (
    FORMS,
    assert_same_as_upstream,
    sent,
    sent_upstream,
    with_lazy_list,
    with_upstream_list,
)
from property.strategies import DTYPE, NUMBER, SMALL
from shardplan.dcp.lazy.path_mappings import merge
from shardplan.dcp.upstream import originals

ours = OURS.default_planner

NAMES = st.sampled_from(["a", "b", "layer.0.w", "layer.1.w", "", "ключ"])
CHUNK_INDICES = st.one_of(st.none(), st.none(), SMALL)


@st.composite
def items(draw: st.DrawFn) -> WriteItem:
    """Shards of few boxes, so that ranks share them; rarely an item that columns cannot hold."""
    name = draw(NAMES)
    number = NUMBER if draw(st.integers(0, 19)) == 0 else SMALL
    shape = draw(st.lists(number, max_size=2))
    match draw(st.integers(0, 11)):
        case 0 | 1:
            return bytes_item(name)
        case 2 | 3 | 4:
            return tensor_item(name, shape, draw(DTYPE), chunk_index=draw(CHUNK_INDICES))
        case 5:
            return draw(st.sampled_from(list(UNUSUAL_ITEMS.values())))()
        case _:
            offsets = [draw(st.sampled_from((0, 0, 2))) for _ in shape]
            return tensor_item(name, shape, draw(DTYPE), offsets, shape, draw(CHUNK_INDICES))


PATH = st.lists(st.one_of(st.sampled_from(["a", "b.c", ""]), st.integers(-1, 3)), max_size=3)


def named(path: list[Any]) -> tuple[str, tuple[Any, ...]]:
    return ".".join(map(str, path)), tuple(path)


MAPPINGS = st.one_of(
    st.lists(PATH.map(named), max_size=4).map(dict),
    st.dictionaries(st.one_of(NAMES, st.integers(0, 2), st.booleans()), st.integers(), max_size=3),
)
FIELDS = st.fixed_dictionaries(
    {}, optional={"planner_data": MAPPINGS, "storage_data": SMALL, "usable": st.booleans()}
)


@st.composite
def plans(draw: st.DrawFn) -> SavePlan:
    return SavePlan(draw(st.lists(items(), max_size=5)), **draw(FIELDS))


@st.composite
def all_plans(draw: st.DrawFn) -> list[SavePlan]:
    """Plans of several ranks; some hold the items of others, in the same or another order."""
    made = draw(st.lists(plans(), min_size=1, max_size=4))
    for _ in range(draw(st.integers(0, 8))):
        again = list(draw(st.sampled_from(made)).items)
        made.append(SavePlan(draw(st.permutations(again)) if draw(st.booleans()) else again))
    return draw(st.permutations(made))


@given(made=all_plans(), lowest=st.booleans(), data=st.data())
def test_dedup_and_global_plan(made: list[SavePlan], lowest: bool, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from([*FORMS, "mixed"]), label="form")
    names = list(FORMS) if form == "mixed" else [form]
    upstream = [with_upstream_list(plan) for plan in made]
    if any("received" in name for name in names):
        upstream = [sent_upstream(plan) for plan in made]
    mine = [FORMS[data.draw(st.sampled_from(names))](with_lazy_list(plan)) for plan in made]

    def planned(functions: Any, given_plans: list[SavePlan]) -> list[Any]:
        deduped = answer(functions.dedup_save_plans, given_plans, lowest)
        found = [deduped, answer(functions.create_default_global_save_plan, given_plans)]
        if not isinstance(deduped, Raised):
            found.append(answer(functions.create_default_global_save_plan, deduped))
        return found

    assert_same_as_upstream(planned(ours, mine), planned(originals, upstream), form)


@given(made=all_plans(), lowest=st.booleans())
def test_plans_travel_at_every_step(made: list[SavePlan], lowest: bool) -> None:
    """The plans are gathered, deduplicated, planned and scattered."""

    def steps(functions: Any, send: Any) -> Any:
        deduped = functions.dedup_save_plans([send(plan) for plan in made], lowest)
        found, metadata = functions.create_default_global_save_plan([send(p) for p in deduped])
        return [send(plan) for plan in found], metadata

    expected = answer(steps, originals, sent_upstream)
    found = answer(steps, ours, sent)
    assert_same(sent_upstream(found), sent_upstream(expected))


@given(plan=plans())
def test_plans_travel(plan: SavePlan) -> None:
    expected = sent_upstream(sent_upstream(plan))
    for each in (plan, with_lazy_list(plan)):
        assert_same(sent_upstream(sent(each)), expected)
        assert_same(sent_upstream(sent(sent(each))), sent_upstream(expected))


@given(mappings=st.lists(MAPPINGS, max_size=6), data=st.data())
def test_merge(mappings: list[dict[Any, Any]], data: st.DataObject) -> None:
    """As ChainMap merges them; some mappings are one object, some are received."""
    again = st.sampled_from(mappings) if mappings else st.nothing()
    each = mappings + (data.draw(st.lists(again, max_size=3)) if mappings else [])
    found = [
        sent(SavePlan([], planner_data=one)).planner_data if data.draw(st.booleans()) else one
        for one in each
    ]
    expected = dict(collections.ChainMap(*each))
    assert_same(merge(found), expected)
    assert [type(key) for key in merge(found)] == [type(key) for key in expected]
