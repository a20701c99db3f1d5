"""Save plans in every form that a coordinator meets: ours, touched, upstream, come from afar."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch.distributed.distributed_c10d as collectives
from torch.distributed.checkpoint.planner import SavePlan

from parity.comparison import assert_same
from shardplan.dcp import wire as wire_module
from shardplan.dcp.lazy.items import LazyList


@contextlib.contextmanager
def wire() -> Iterator[None]:
    """Our pickler where torch's collectives take theirs."""
    before = collectives._pickler
    collectives._pickler = pickle.Pickler
    wire_module.install()
    try:
        assert collectives._pickler is wire_module.Pickler
        yield
    finally:
        collectives._pickler = before


def packed(value: Any) -> bytes:
    """What torch's collectives send of it."""
    buffer = io.BytesIO()
    with wire():
        collectives._pickler(buffer).dump(value)
    return buffer.getvalue()


def sent(value: Any) -> Any:
    """What arrives of it on another rank."""
    return pickle.loads(packed(value))


def sent_upstream(value: Any) -> Any:
    """What arrives of it where torch's own pickler sends it."""
    return pickle.loads(pickle.dumps(value))


def touched(plan: SavePlan) -> SavePlan:
    plan.items[:0]
    return plan


def with_upstream_list(plan: SavePlan) -> SavePlan:
    return dataclasses.replace(plan, items=list(plan.items))


def with_our_list(plan: SavePlan) -> SavePlan:
    return dataclasses.replace(plan, items=LazyList(plan.items))


FORMS: dict[str, Callable[[SavePlan], SavePlan]] = {
    "as it is": lambda plan: plan,
    "touched": touched,
    "upstream": with_upstream_list,
    "arrived": sent,
    "arrived, touched": lambda plan: touched(sent(plan)),
    "arrived twice": lambda plan: sent(sent(plan)),
    "upstream, arrived": lambda plan: sent(with_upstream_list(plan)),
    "arrived as upstream": sent_upstream,
}


def in_forms(plans: Sequence[SavePlan], form: str) -> list[SavePlan]:
    """The plans in this form, or, "mixed", each rank's in another one."""
    forms = list(FORMS.values())
    return [
        (forms[rank % len(forms)] if form == "mixed" else FORMS[form])(plan)
        for rank, plan in enumerate(plans)
    ]


def has_travelled(form: str) -> bool:
    return "arrived" in form or form == "mixed"


def assert_same_as_upstream(ours: Any, upstream: Any, form: str) -> None:
    """Compares what was made of plans in this form with what upstream makes of plans as they are.

    What upstream's pickler sends loses attributes of properties and their order: travelled plans
    are compared as they would arrive by it.
    """
    if has_travelled(form):
        assert_same(sent_upstream(ours), sent_upstream(upstream))
    else:
        assert_same(ours, upstream)
