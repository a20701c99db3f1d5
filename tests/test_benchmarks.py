"""The workloads have their stated properties, and the benchmarks detect wrong results."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import distributed_c10d
from torch.distributed.checkpoint import default_planner as originals
from torch.distributed.checkpoint.metadata import MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.device_mesh import init_device_mesh

from benchmarks import caching_cases, gloo_cases, harness, workloads
from benchmarks.agreement import Disagreement, same
from benchmarks.measures import Bound, Scaled
from benchmarks.workloads.plans import Part, upstream_plan
from shardplan.dcp.planners import plan_cache

ROOT = Path(__file__).resolve().parents[1]

EVEN_LLAMA = workloads.LlamaConfig(dim=120, layers=1, hidden=360, kv_dim=60, vocabulary=960)
SMALL_MOE = workloads.MoeConfig(
    dim=64,
    layers=3,
    dense_layers=1,
    dense_hidden=96,
    experts=8,
    expert_hidden=32,
    query_rank=24,
    query_dim=48,
    kv_rank=16,
    kv_dim=40,
    rotary_dim=8,
    value_dim=56,
    vocabulary=301,
)


def brute_force_tiles(boxes: workloads.Boxes) -> bool:
    """Whether every element lies in exactly one box."""
    counts = torch.zeros(boxes.shape, dtype=torch.int64)
    for offsets, sizes in map(boxes.box, range(len(boxes))):
        counts[tuple(slice(at, at + size) for at, size in zip(offsets, sizes, strict=True))] += 1
    return bool((counts == 1).all())


BOXES = {
    "even": workloads.sharded((24, 6), 0, 12),
    "uneven": workloads.sharded((6, 29), 1, 13),
    "grid": workloads.grid((7, 10, 11), (3, 2, 5)),
    "kd": workloads.kd_split((40, 50), 37),
    "kd, shuffled": workloads.kd_split((13, 17, 6), 101).shuffled(),
}


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES.keys())
def test_layouts_tile_their_tensor_until_a_fault_is_added(boxes: workloads.Boxes) -> None:
    assert brute_force_tiles(boxes)
    assert not brute_force_tiles(boxes.with_fault(boxes.overlap()))
    assert not brute_force_tiles(boxes.with_fault(boxes.hole()))
    plans = [SavePlan([]), SavePlan([])]
    assert not originals._validate_global_plan(plans, boxes.metadata())
    overrun = boxes.with_fault(boxes.overrun()).metadata()
    assert "out of bounds" in str(originals._validate_global_plan(plans, overrun))


def test_shuffling_moves_boxes_and_loses_none() -> None:
    boxes = workloads.grid((20, 30), (4, 5))
    shuffled = boxes.shuffled()
    everything = [boxes.box(at) for at in range(len(boxes))]
    assert [shuffled.box(at) for at in range(len(shuffled))] != everything
    assert sorted(shuffled.box(at) for at in range(len(shuffled))) == everything


def test_kd_split_rejects_more_parts_than_elements() -> None:
    assert brute_force_tiles(workloads.kd_split((4, 5), 20))
    with pytest.raises(ValueError, match="20 elements"):
        workloads.kd_split((4, 5), 21)


def test_llama_405b_with_adam_has_3411_entries() -> None:
    entries = workloads.with_adam(workloads.llama(workloads.LLAMA3_405B))
    assert len(entries) == 3 * (126 * 9 + 3) == 3_411
    assert {
        "model.layers.125.attention.wq.weight",
        "optim.state.layers.125.attention.wq.weight.exp_avg",
        "optim.state.layers.125.attention.wq.weight.exp_avg_sq",
    } <= entries.keys()


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        (workloads.LLAMA3_8B, 8.03),
        (workloads.LLAMA3_70B, 70.6),
        (workloads.LLAMA3_405B, 405.9),
    ],
)
def test_llamas_have_as_many_parameters_as_their_names_say(
    config: workloads.LlamaConfig, billions: float
) -> None:
    shapes = (torch.Size(parameter.shape) for parameter in workloads.llama(config).values())
    assert sum(shape.numel() for shape in shapes) / 1e9 == pytest.approx(billions, rel=2e-3)


def test_deepseek_like_model_has_over_100_000_entries() -> None:
    parameters = workloads.moe(workloads.DEEPSEEK_V3)
    assert len(workloads.with_adam(parameters)) > 100_000
    elements = sum(torch.Size(parameter.shape).numel() for parameter in parameters.values())
    assert elements / 1e9 == pytest.approx(671, rel=2e-3)


PARALLELISMS = {
    "fsdp": workloads.fsdp(6),
    "hsdp": workloads.hsdp(2, 3),
    "fsdp x tp": workloads.fsdp_tp(3, 2),
}


@pytest.mark.parametrize("parallelism", PARALLELISMS.values(), ids=PARALLELISMS.keys())
def test_saved_metadata_equals_that_of_a_save_on_every_rank(
    parallelism: workloads.Parallelism,
) -> None:
    """Sizes are even here: upstream rejects a checkpoint of uneven ``_StridedShard`` chunks."""
    parameters = workloads.llama(EVEN_LLAMA)
    plans = []
    for rank in range(parallelism.ranks):
        with workloads.world(rank, parallelism.ranks):
            entries = workloads.state_dict(parameters, parallelism)
            plans.append(originals.create_default_local_save_plan(entries, rank == 0))
            for item, tensor in zip(plans[-1].items, entries.values(), strict=True):
                assert item.tensor_data is not None
                assert item.tensor_data.chunk.sizes == tensor.to_local().shape
    plans, metadata = originals.create_default_global_save_plan(originals.dedup_save_plans(plans))
    assert not originals._validate_global_plan(plans, metadata)
    made = workloads.saved_metadata(parameters, parallelism)
    assert _sorted_chunks(made) == _sorted_chunks(metadata)


def _sorted_chunks(metadata: Any) -> Any:
    """Sorts the chunks, because their order depends on dedup where there are replicas."""
    return {
        name: (saved.size, sorted((chunk.offsets, chunk.sizes) for chunk in saved.chunks))
        for name, saved in metadata.state_dict_metadata.items()
        if isinstance(saved, TensorStorageMetadata)
    }


def test_reshard_from_two_dims_to_one_reads_every_element() -> None:
    parameters = workloads.llama(EVEN_LLAMA)
    with workloads.world(2, 3):
        entries, metadata = workloads.reshard(
            parameters, workloads.fsdp_tp(5, 2), workloads.fsdp(3)
        )
        plan = originals.create_default_local_load_plan(entries, metadata)
    read = dict.fromkeys(entries, 0)
    for item in plan.items:
        read[item.dest_index.fqn] += item.lengths.numel()
    assert read == {name: tensor.to_local().numel() for name, tensor in entries.items()}


UNEVEN_LLAMA = workloads.LlamaConfig(dim=10, layers=1, hidden=7, kv_dim=3, vocabulary=11)
LLAMAS = {"even": EVEN_LLAMA, "uneven": UNEVEN_LLAMA}


def planned_by_upstream(entries: dict[str, Any]) -> SavePlan:
    planner = originals.DefaultSavePlanner()
    planner.set_up_planner(entries, is_coordinator=False)
    return planner.create_local_plan()


@pytest.mark.parametrize("config", LLAMAS.values(), ids=LLAMAS.keys())
@pytest.mark.parametrize("parallelism", PARALLELISMS.values(), ids=PARALLELISMS.keys())
def test_plans_without_a_world_equal_those_of_upstream_planners(
    parallelism: workloads.Parallelism, config: workloads.LlamaConfig
) -> None:
    parameters = workloads.with_adam(workloads.llama(config))
    for rank, plan in enumerate(workloads.every_rank(parameters, parallelism)):
        with workloads.world(rank, parallelism.ranks):
            planned = planned_by_upstream(workloads.state_dict(parameters, parallelism))
        assert same(plan, planned)
        assert same(plan, upstream_plan([Part(parameters, parallelism, rank)]))


def test_plans_of_experts_equal_those_of_upstream_planners() -> None:
    for rank, plan in enumerate(workloads.every_rank_of_moe(SMALL_MOE, 2, 2)):
        with workloads.world(rank, 4):
            planned = planned_by_upstream(workloads.moe_state_dict(SMALL_MOE, 2, 2))
        assert same(plan, planned)


def test_expert_parallel_ranks_hold_their_own_experts_only() -> None:
    whole = workloads.with_adam(workloads.moe(SMALL_MOE)).keys()
    held: list[set[str]] = []
    for rank in range(4):
        with workloads.world(rank, 4):
            entries = workloads.moe_state_dict(SMALL_MOE, shards=2, expert_parallel=2)
            assert len(originals.create_default_local_save_plan(entries, False).items) == len(
                entries
            )
            held.append({name for name in entries if ".experts." in name})
    assert held[0] == held[2] and held[1] == held[3] and not held[0] & held[1]
    assert held[0] | held[1] == {name for name in whole if ".experts." in name}


def test_tables_are_sharded_by_rows_and_the_last_ranks_may_have_none() -> None:
    with workloads.world(3, 4):
        tables = workloads.dlrm_state_dict([10, 5, 3], embedding_dim=8)
        plan = originals.create_default_local_save_plan(tables, False)
    indices = [item.index for item in plan.items]
    names = list(tables)
    assert indices == [
        MetadataIndex(names[0], (9, 0)),
        MetadataIndex(names[1], (5, 0)),
        MetadataIndex(names[2], (3, 0)),
    ]


def test_agreement_compares_chunk_indices_and_classes() -> None:
    assert MetadataIndex("a", (1,), 3) == MetadataIndex("a", (1,), 4)
    assert same(MetadataIndex("a", (1,), 3), MetadataIndex("a", (1,), 3))
    assert not same(MetadataIndex("a", (1,), 3), MetadataIndex("a", (1,), 4))
    assert not same(torch.Size([1]), (1,))
    assert not same([1], [True])


def test_no_time_is_printed_if_results_differ() -> None:
    with pytest.raises(Disagreement):
        harness.race(lambda: [1, 2], lambda: [2, 1])
    ours, upstream = harness.race(lambda: [1, 2], lambda: [1, 2], rounds=2)
    assert ours.rounds == 2 and upstream.rounds == 3
    assert ours.seconds > 0 and upstream.seconds > 0


def test_bounds_and_scaled_times_are_marked() -> None:
    under = Bound("work", "all", 4.0, 40.0, "ms", 5)
    assert under.passed and not Bound("work", "all", 6.0, None, "ms", 5).passed
    expected = ("work", "40 ms", "4 ms", "10.0x less", "<= 5 ms", "pass", "all")
    assert under.cells() == expected
    unbound = Bound("work", "all", 4.0, None, "ms", None)
    assert unbound.cells() == ("work", "", "4 ms", "", "", "", "all")

    ours, part = harness.Timing(0.5, 3), harness.Timing(20.0, 1)
    scaled = Scaled("work", "all", ours, part, 1 / 8, 300)
    assert scaled.ratio == 20 * 8 / 0.5 and scaled.passed
    assert scaled.cells() == ("work", "20 s x 8", "500 ms", "320x", ">= 300x", "pass", "all")
    assert not Scaled("work", "all", ours, part, 1 / 8, 321).passed


def test_caches_are_empty_before_and_after_a_measurement() -> None:
    SavePlanner._cached_save_plan["before"] = SavePlan([])
    with caching_cases.empty_caches():
        assert not SavePlanner._cached_save_plan
        SavePlanner._cached_metadata["within"] = workloads.sharded((2,), 0, 1).metadata()
        plan_cache._unfinished.add("within")
    assert len(caching_cases.CACHES) >= 5
    assert not any(getattr(SavePlanner, name) for name in caching_cases.CACHES)
    assert not plan_cache._unfinished


def test_unchanged_plans_agree_and_changes_are_detected() -> None:
    parameters = workloads.llama(UNEVEN_LLAMA)
    with caching_cases.empty_caches(), workloads.world(1, 2):
        entries = workloads.state_dict(parameters, workloads.fsdp(2))
        ours, upstream = (
            caching_cases.unchanged_on_rank(planner, entries) for planner in caching_cases.PLANNERS
        )
        assert same(ours(), upstream())
        cached = SavePlanner._cached_save_plan
        cached.update(dict.fromkeys(cached, planned_by_upstream({})))
        for call in (ours, upstream):
            with pytest.raises(Disagreement, match="changed"):
                call()
    with caching_cases.empty_caches():
        ours, upstream = (
            caching_cases.unchanged_on_coordinator(planner, parameters, 3)
            for planner in caching_cases.PLANNERS
        )
        assert same(ours(), upstream())


def test_nested_state_dict_has_as_many_entries_as_its_row_says() -> None:
    with workloads.world(3, 4):
        mesh = init_device_mesh("cpu", (4,))
        flat = planned_by_upstream(gloo_cases.nested_state_dict(mesh, gloo_cases.PARAMETERS))
        state = gloo_cases.nested_state_dict(mesh, 3)
        few = planned_by_upstream(state)
    # The optimizer's options, as many as this torch has.
    options = len(few.items) - 4 * 3
    assert len(flat.items) == 4 * 1_600 + options
    assert 10 <= options <= 14
    # The shapes of the last rank: one row, none, none.
    assert [tensor.to_local().shape for tensor in state["model"].values()] == [
        (2, 4),
        (0, 4),
        (0, 4),
    ]
    sizes = [item.tensor_data.chunk.sizes for item in few.items[:3] if item.tensor_data is not None]
    assert sizes == [(2, 4), (0, 4), (0, 4)]


def test_stopwatch_times_every_part_until_planning_is_over() -> None:
    before = distributed_c10d._pickler, distributed_c10d._unpickler
    watch = gloo_cases.Stopwatch()
    planner = originals.DefaultSavePlanner()
    watch.watch(planner)
    with watch.watching_collectives(pickle.Pickler):
        planner.set_up_planner({"a": torch.ones(2)}, is_coordinator=True)
        stream = io.BytesIO()
        distributed_c10d._pickler(stream).dump(planner.create_local_plan())
        received = distributed_c10d._unpickler(io.BytesIO(stream.getvalue())).load()
        planner.finish_plan(planner.create_global_plan([received])[0][0])
        assert set(watch.times) == {*gloo_cases.HOOKS, gloo_cases.PICKLING}
        assert all(seconds > 0 for seconds in watch.times.values())
        known = dict(watch.times)
        distributed_c10d._pickler(io.BytesIO()).dump(received)
        planner.create_local_plan()
    assert watch.times == known
    assert (distributed_c10d._pickler, distributed_c10d._unpickler) == before


def test_command_prints_and_writes_its_table(tmp_path: Path) -> None:
    written = tmp_path / "table.json"
    command = [sys.executable, "-m", "benchmarks", "--only", "chunk", "--json", str(written)]
    ran = subprocess.run(
        command, cwd=ROOT, env=os.environ.copy(), capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(written.read_text())["rows"]
    assert len(rows) == 2
    for row in rows:
        assert row["ratio"] == pytest.approx(row["upstream"]["seconds"] / row["ours"]["seconds"])
        assert f"{row['ratio']:,.0f}x" in ran.stdout
