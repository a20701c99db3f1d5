"""Callers that pass something other than a list of plans, or fail midway."""

from __future__ import annotations

import gc
import os
import pickle
import pickletools
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, WriteItem

from contract.upstream_caching import caches_unfinished_plans
from plan_caches import clear_plan_caches
from shardplan import default_planner
from shardplan.dcp import wire
from shardplan.dcp.native import native
from shardplan.dcp.planners import plan_cache
from shardplan.dcp.upstream import originals
from tests.parity.travel import sent


@pytest.fixture(autouse=True)
def empty_plan_cache() -> Iterator[None]:
    wire.install()
    yield
    wire.uninstall()
    clear_plan_caches()
    plan_cache._unfinished.clear()


def plan(rows: int = 4) -> SavePlan:
    return originals.create_default_local_save_plan({"w": torch.zeros(rows), "n": 1}, True)


def test_an_iterator_of_plans() -> None:
    made, metadata = default_planner.create_default_global_save_plan(iter([plan()]))  # type: ignore[arg-type]
    expected = originals.create_default_global_save_plan(iter([plan()]))  # type: ignore[arg-type]
    assert (made, metadata) == expected
    assert len(made) == 1


def test_a_list_with_its_own_iterator() -> None:
    class Last(list):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[WriteItem]:
            return iter([self[-1]])

    plans = [SavePlan(Last(plan().items))]
    _, metadata = default_planner.create_default_global_save_plan(plans)
    assert metadata == originals.create_default_global_save_plan(plans)[1]
    assert list(metadata.state_dict_metadata) == ["n"]


def test_metadata_whose_mapping_is_not_a_dict() -> None:
    planner = default_planner.DefaultSavePlanner()
    planner.set_up_planner({"w": torch.zeros(4)}, None, True)
    plans, metadata = planner.create_global_plan([planner.create_local_plan()])
    metadata.state_dict_metadata = types.MappingProxyType(  # type: ignore[assignment]
        metadata.state_dict_metadata
    )
    assert planner.finish_plan(plans[0]) is plans[0]


def test_received_mappings_are_a_plain_dict_in_a_file() -> None:
    received = sent(SavePlan(plan().items, planner_data={"w": ("w",), "n": ("n",)}))
    ours = pickle.dumps(Metadata({}, planner_data=received.planner_data))
    upstream = pickle.dumps(Metadata({}, planner_data={"w": ("w",), "n": ("n",)}))
    names = [
        [a for op, a, _ in pickletools.genops(b) if isinstance(a, str)] for b in (ours, upstream)
    ]
    assert names[0] == names[1]


def save(planner: Any, rows: int, fails: bool = False) -> SavePlan:
    planner.set_up_planner({"w": torch.zeros(rows)}, None, True)
    plans, _ = planner.create_global_plan([planner.create_local_plan()])
    final: SavePlan = plans[0] if fails else planner.finish_plan(plans[0])
    return final


@pytest.mark.parametrize("kind", [default_planner.DefaultSavePlanner, originals.DefaultSavePlanner])
def test_plan_of_a_failed_save_is_not_cached_by_a_later_one(kind: Any) -> None:
    first, second = (kind(enable_plan_caching=True) for _ in range(2))
    save(first, 4, fails=True)
    save(second, 8)
    save(first, 8)
    final = save(first, 4)
    right = final.items[0].tensor_data.size == torch.Size([4])
    assert right is (kind is default_planner.DefaultSavePlanner or caches_unfinished_plans())


def test_collector_runs_in_a_forked_child() -> None:
    native.end_collector_pauses()
    assert gc.isenabled()
    child = os.fork()
    if child == 0:
        os._exit(0 if gc.isenabled() else 1)
    assert os.waitpid(child, 0)[1] == 0
