"""Rows 7, 9 and 10: the plan cache, pickled planners, threads, no group, pickled errors."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner

from contract.upstream_caching import caches_unfinished_plans
from parity.boxes import BROKEN_CHUNKS, tensor_metadata
from parity.comparison import Raised, answer, assert_same
from parity.implementations import OURS, UPSTREAM, Implementation
from shardplan.dcp.upstream import originals

CACHES = [
    "_cached_save_plan",
    "_cached_final_save_plan",
    "_cached_all_plans",
    "_cached_global_plan",
    "_cached_metadata",
]


def state_dict(rows: int = 4) -> dict[str, Any]:
    return {"w": torch.zeros(rows), "c": 3}


@pytest.fixture(autouse=True)
def empty_plan_cache() -> Iterator[None]:
    for name in CACHES:
        getattr(SavePlanner, name).clear()
    yield
    for name in CACHES:
        getattr(SavePlanner, name).clear()


def save_once(planner: Any, rows: int = 4) -> tuple[SavePlan, list[SavePlan], Metadata, SavePlan]:
    planner.set_up_planner(state_dict(rows), None, True)
    local = planner.create_local_plan()
    global_plans, metadata = planner.create_global_plan([local])
    return local, global_plans, metadata, planner.finish_plan(global_plans[0])


def test_caches_are_upstreams_plain_dicts() -> None:
    for name in CACHES:
        assert type(getattr(OURS.DefaultSavePlanner, name)) is dict
        assert getattr(OURS.DefaultSavePlanner, name) is getattr(SavePlanner, name)
        assert name not in vars(OURS.DefaultSavePlanner)


def test_cache_key_can_be_read_and_assigned(implementation: Implementation) -> None:
    planner = implementation.DefaultSavePlanner(enable_plan_caching=True)
    assert planner._cached_plans_key.endswith("DefaultSavePlanner")
    planner._cached_plans_key = "mine"
    save_once(planner)
    for name in CACHES:
        assert list(getattr(SavePlanner, name)) == ["mine"], name


def test_cached_plans(implementation: Implementation) -> None:
    """Three saves: the first fills the cache, the second sends nothing, the third has changed."""
    planner = implementation.DefaultSavePlanner(enable_plan_caching=True)
    first = save_once(planner)
    assert first[0].usable
    assert SavePlanner._cached_save_plan[planner._cached_plans_key] == first[0]
    second = save_once(planner)
    assert second[0] == SavePlan([], usable=False)
    assert second[1] == [SavePlan([], usable=False)]
    assert second[2] is first[2]
    assert second[3] == first[3]
    third = save_once(planner, rows=5)
    assert third[0].usable
    assert third[3].items[0].tensor_data.size == torch.Size([5])


@pytest.mark.parametrize("rows", [(4, 4, 4), (4, 5, 4), (4, 5, 5, 5)])
def test_caching_step_by_step_as_upstream(rows: tuple[int, ...]) -> None:
    answers: dict[str, list[Any]] = {"ours": [], "upstream": []}
    for implementation in (OURS, UPSTREAM):
        for name in CACHES:
            getattr(SavePlanner, name).clear()
        for count in rows:
            # Each save uses a new planner, as dcp.save does.
            planner = implementation.DefaultSavePlanner(enable_plan_caching=True)
            answers[implementation.name] += [
                save_once(planner, count),
                {name: list(getattr(SavePlanner, name).values()) for name in CACHES},
            ]
    assert_same(answers["ours"], answers["upstream"])


def test_failed_save_leaves_no_cache(implementation: Implementation) -> None:
    """A registered planner is upstream's, which caches the local plans first with torch 2.11."""
    planner = implementation.DefaultSavePlanner(enable_plan_caching=True)
    planner.set_up_planner(state_dict(), None, True)
    local = planner.create_local_plan()
    local.items[0].tensor_data.chunk.sizes = torch.Size([9])
    with pytest.raises(ValueError, match="Failed to validate global plan"):
        planner.create_global_plan([local, local])
    early = implementation.name != "ours" and caches_unfinished_plans()
    kept = ["_cached_save_plan", "_cached_all_plans"] if early else []
    assert [name for name in CACHES if getattr(SavePlanner, name)] == kept


@pytest.mark.parametrize("name", ["DefaultSavePlanner", "DefaultLoadPlanner"])
@pytest.mark.parametrize("send", [lambda p: pickle.loads(pickle.dumps(p)), copy.deepcopy])
def test_planners_pickle(name: str, send: Any) -> None:
    """async_save in a process pickles the planner that it was given."""
    planner = getattr(OURS, name)(flatten_state_dict=False)
    received = send(planner)
    assert type(received) is type(planner)
    assert vars(received) == vars(planner)
    assert received.flatten_state_dict is False


def test_planner_pickles_after_planning() -> None:
    planner = OURS.DefaultSavePlanner()
    save_once(planner)
    received = pickle.loads(pickle.dumps(planner))
    assert received.plan == planner.plan
    assert received.metadata == planner.metadata
    loader = OURS.DefaultLoadPlanner()
    loader.set_up_planner(state_dict(), planner.metadata, True)
    assert pickle.loads(pickle.dumps(loader)).create_local_plan() == loader.create_local_plan()


def test_background_thread(tmp_path: Path, implementation: Implementation) -> None:
    saved = {"w": torch.arange(5.0), "c": {"depth": 3}}
    failures: list[BaseException] = []

    def save() -> None:
        try:
            planner = implementation.DefaultSavePlanner()
            dcp.save(saved, checkpoint_id=tmp_path, planner=planner, no_dist=True)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=save)
    thread.start()
    thread.join(60)
    assert not failures
    loaded = {"w": torch.zeros(5), "c": {"depth": 0}}
    planner = implementation.DefaultLoadPlanner()
    dcp.load(loaded, checkpoint_id=tmp_path, planner=planner, no_dist=True)
    assert torch.equal(loaded["w"], saved["w"])  # type: ignore[arg-type]
    assert loaded["c"] == saved["c"]


def test_plans_made_by_many_threads_at_once() -> None:
    expected = list(originals.create_default_local_save_plan(state_dict(), True).items)
    start = threading.Barrier(8)
    found: list[Any] = []

    def plan() -> None:
        start.wait()
        for _ in range(50):
            made = OURS.default_planner.create_default_local_save_plan(state_dict(), True)
            found.append(list(made.items) == expected)

    threads = [threading.Thread(target=plan) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 400


def test_no_process_group(implementation: Implementation) -> None:
    assert not dist.is_initialized()
    _, plans, metadata, final = save_once(implementation.DefaultSavePlanner())
    assert final is plans[0]
    assert list(metadata.state_dict_metadata) == ["w", "c"]


def test_planning_without_collectives(implementation: Implementation) -> None:
    """use_collectives=False: each rank's plan is global, and need not cover the tensor."""
    planner = implementation.DefaultSavePlanner()
    planner.set_up_planner(state_dict(), None, True)
    plan = planner.create_local_plan()
    plan.items[0].tensor_data.chunk.sizes = torch.Size([1])
    plans, metadata = planner.create_global_plan([plan])
    assert metadata.state_dict_metadata["w"].chunks[0].sizes == torch.Size([1])
    assert len(plans) == 1


@pytest.mark.parametrize("broken", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_errors_survive_pickling(broken: Any) -> None:
    """Otherwise the other ranks wait for the timeout of the process group."""
    loader = OURS.DefaultLoadPlanner()
    metadata = Metadata({"w": tensor_metadata((4, 4), [broken])})
    loader.set_up_planner({"w": torch.zeros(4, 4)}, metadata, True)
    for function in (
        loader.create_local_plan,
        lambda: OURS.default_planner._validate_global_plan([SavePlan([])] * 2, metadata),
    ):
        try:
            function()
        except Exception as error:
            received = pickle.loads(pickle.dumps(error))
            assert Raised.by(received) == Raised.by(error)
            assert type(error).__module__.split(".")[0] != "shardplan"
    for error in (
        answer(OURS.default_planner.create_default_local_load_plan, {"x": 1}, metadata),
        answer(
            OURS.default_planner.create_default_local_load_plan, {"w": torch.zeros(2)}, metadata
        ),
    ):
        assert isinstance(error, Raised)
        assert error.kind in (RuntimeError, ValueError)
