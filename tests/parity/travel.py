"""Save plans in every form that a coordinator gets: lazy, materialized, upstream, received."""

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
    """Installs shardplan's pickler for torch's collectives."""
    before = collectives._pickler
    collectives._pickler = pickle.Pickler
    wire_module.install()
    try:
        assert collectives._pickler is wire_module.Pickler
        yield
    finally:
        collectives._pickler = before


def packed(value: Any) -> bytes:
    """Returns the bytes that torch's collectives send."""
    buffer = io.BytesIO()
    with wire():
        collectives._pickler(buffer).dump(value)
    return buffer.getvalue()


def sent(value: Any) -> Any:
    """Returns the copy that another rank receives."""
    return pickle.loads(packed(value))


def sent_upstream(value: Any) -> Any:
    """Returns the copy that is received if torch's own pickler sends it."""
    return pickle.loads(pickle.dumps(value))


def materialized(plan: SavePlan) -> SavePlan:
    plan.items[:0]
    return plan


def with_upstream_list(plan: SavePlan) -> SavePlan:
    return dataclasses.replace(plan, items=list(plan.items))


def with_lazy_list(plan: SavePlan) -> SavePlan:
    return dataclasses.replace(plan, items=LazyList(plan.items))


FORMS: dict[str, Callable[[SavePlan], SavePlan]] = {
    "as it is": lambda plan: plan,
    "materialized": materialized,
    "upstream": with_upstream_list,
    "received": sent,
    "received, materialized": lambda plan: materialized(sent(plan)),
    "received twice": lambda plan: sent(sent(plan)),
    "upstream, received": lambda plan: sent(with_upstream_list(plan)),
    "received as upstream": sent_upstream,
}


def in_forms(plans: Sequence[SavePlan], form: str) -> list[SavePlan]:
    """Returns the plans in this form; in the form "mixed", each rank's plan has another one."""
    forms = list(FORMS.values())
    return [
        (forms[rank % len(forms)] if form == "mixed" else FORMS[form])(plan)
        for rank, plan in enumerate(plans)
    ]


def has_travelled(form: str) -> bool:
    return "received" in form or form == "mixed"


def assert_same_as_upstream(ours: Any, upstream: Any, form: str) -> None:
    """Compares the result for plans in this form with upstream's result for the original plans.

    Upstream's pickler loses attributes of properties and their order. Travelled plans are therefore
    compared after a round trip through it.
    """
    if has_travelled(form):
        assert_same(sent_upstream(ours), sent_upstream(upstream))
    else:
        assert_same(ours, upstream)
