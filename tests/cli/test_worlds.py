"""``reshard`` and ``simulate`` give the results of upstream planning on worlds of that size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import (
    create_default_global_save_plan,
    create_default_local_load_plan,
    create_default_local_save_plan,
    dedup_save_plans,
)
from torch.distributed.checkpoint.metadata import BytesStorageMetadata
from torch.distributed.checkpoint.planner import LoadItemType
from torch.distributed.tensor import Placement, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from parity.worlds import dtensor_of, mesh_of, rank_of

from .commands import json_of, run

Layout = tuple[str, tuple[int, ...], tuple[Placement, ...]]

LAYOUTS: list[Layout] = [
    ("S(0)", (3,), (Shard(0),)),
    ("S(1)", (5,), (Shard(1),)),
    ("R", (2,), (Replicate(),)),
    ("S(0),S(1)", (2, 3), (Shard(0), Shard(1))),
    ("R,S(0)", (2, 4), (Replicate(), Shard(0))),
    ("_S(0, 2),S(0)", (3, 2), (_StridedShard(0, split_factor=2), Shard(0))),
]
IDS = [text for text, *_ in LAYOUTS]


def fitted(placements: Sequence[Placement], ndim: int) -> tuple[Placement, ...]:
    """The default rule of the commands: a dim that a tensor does not have is replicated."""
    return tuple(
        Replicate() if getattr(one, "dim", 0) >= ndim and not one.is_replicate() else one
        for one in placements
    )


def rule(text: str) -> list[str]:
    """The rule that ``fitted`` implements."""
    return ["--placements", text, "--replicate-missing-dims"]


@pytest.mark.parametrize(("text", "shape", "placements"), LAYOUTS, ids=IDS)
def test_reshard_counts_the_reads_of_upstream_load_plans(
    checkpoint: Path, text: str, shape: tuple[int, ...], placements: tuple[Placement, ...]
) -> None:
    metadata = dcp.FileSystemReader(checkpoint).read_metadata()
    mesh_text = "x".join(map(str, shape))
    data = json_of("reshard", checkpoint, "--mesh", mesh_text, *rule(text))
    ranks = torch.Size(shape).numel()
    assert data["ranks"] == ranks
    for rank in range(ranks):
        with rank_of(rank, ranks):
            wanted: dict[str, Any] = {}
            for name, saved in metadata.state_dict_metadata.items():
                if isinstance(saved, BytesStorageMetadata):
                    wanted[name] = None
                    continue
                fitting = fitted(placements, len(saved.size))
                wanted[name] = dtensor_of(tuple(saved.size), mesh_of(shape), fitting)
            plan = create_default_local_load_plan(wanted, metadata)
            boxes = {
                name: one.to_local().numel()
                * metadata.state_dict_metadata[name].properties.dtype.itemsize  # type: ignore[union-attr]
                for name, one in wanted.items()
                if one is not None
            }
        locations = [metadata.storage_data[item.storage_index] for item in plan.items]
        objects = sum(
            location.length
            for item, location in zip(plan.items, locations, strict=True)
            if item.type is LoadItemType.BYTE_IO
        )
        assert data["per_rank"]["requests"][rank] == len(plan.items)
        assert data["per_rank"]["read_bytes"][rank] == sum(
            location.length for location in locations
        )
        assert data["per_rank"]["files"][rank] == len(
            {location.relative_path for location in locations}
        )
        assert data["per_rank"]["wanted_bytes"][rank] == sum(boxes.values()) + objects
    assert data["slowest"]["read_bytes"] == max(data["per_rank"]["read_bytes"])


SHAPES = {"a": [9, 8], "b": [5], "c": [7, 3], "d": [2, 64]}


@pytest.mark.parametrize(("text", "shape", "placements"), LAYOUTS, ids=IDS)
def test_simulate_plans_as_upstream_does(
    tmp_path: Path, text: str, shape: tuple[int, ...], placements: tuple[Placement, ...]
) -> None:
    (tmp_path / "shapes.json").write_text(json.dumps(SHAPES))
    mesh_text = "x".join(map(str, shape))
    data = json_of(
        "simulate", "--shapes", tmp_path / "shapes.json", "--mesh", mesh_text, *rule(text)
    )
    ranks = torch.Size(shape).numel()
    local = []
    for rank in range(ranks):
        with rank_of(rank, ranks):
            state_dict = {
                name: dtensor_of(tuple(size), mesh_of(shape), fitted(placements, len(size)))
                for name, size in SHAPES.items()
            }
            local.append(create_default_local_save_plan(state_dict, False))
    plans, metadata = create_default_global_save_plan(dedup_save_plans(local))
    assert data["items"] == sum(len(plan.items) for plan in local)
    assert data["items_written"] == sum(len(plan.items) for plan in plans)
    written = [
        sum(item.tensor_data.chunk.sizes.numel() * 4 for item in plan.items if item.tensor_data)
        for plan in plans
    ]
    # Ties between ranks are resolved in CPython's set order upstream, and in ascending order here.
    assert sorted(data["per_rank"]["bytes"]) == sorted(written)
    assert data["bytes"] == sum(torch.Size(size).numel() * 4 for size in SHAPES.values())
    assert set(metadata.state_dict_metadata) == set(SHAPES)


def test_simulate_from_a_checkpoint(checkpoint: Path) -> None:
    data = json_of("simulate", "--from", checkpoint, "--mesh", "4")
    assert data["tensors"] == 4
    assert data["bytes"] == sum(data["per_rank"]["bytes"])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama3-8b", 8.03e9),
        ("llama3-70b", 70.55e9),
        ("llama3-405b", 405.85e9),
        ("deepseek-v3", 671e9),
    ],
)
def test_models_have_as_many_parameters_as_their_names_say(name: str, parameters: float) -> None:
    data = json_of("simulate", "--model", name, "--mesh", "2", "--dtype", "bfloat16", "--no-adam")
    assert data["bytes"] / 2 == pytest.approx(parameters, rel=0.005)


def test_metadata_size_is_near_that_of_a_file(tmp_path: Path) -> None:
    """The file is written by shardplan's writer from the same plan."""
    import shardplan
    from benchmarks import coordination, finishing
    from benchmarks.workloads import LLAMA3_8B, every_rank, fsdp, llama, with_adam
    from benchmarks.workloads.results import write_results

    plans = every_rank(with_adam(llama(LLAMA3_8B)), fsdp(16))
    sent = [
        (coordination.our_bytes(plan), finishing.our_bytes(write_results(plan, rank)))
        for rank, plan in enumerate(plans)
    ]
    _, metadata = coordination.ours([plan for plan, _ in sent], make_chunks=False)
    writer = shardplan.FileSystemWriter(tmp_path, sync_files=False)
    writer.fs.mkdir(tmp_path)
    finishing.ours([results for _, results in sent], metadata, tmp_path)
    data = json_of("simulate", "--model", "llama3-8b", "--mesh", "16")
    size = (tmp_path / ".metadata").stat().st_size
    assert data["metadata_bytes"] == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mesh", "2x2", "--placements", "S(0)"], "the mesh has 2 dims"),
        (["--mesh", "2", "--placements", "none.*=S(0)"], "no --placements match"),
        (["--mesh", "0"], "expected a mesh of 1 to"),
        (["--mesh", "two"], "expected a mesh such as 128x8"),
        (["--mesh", "9999999x9999999"], "expected a mesh of 1 to"),
        (["--mesh", "2", "--placements", "Partial"], "expected a placement"),
        (["--mesh", "2", "--placements", "_S(0,0)"], "expected a placement"),
        (
            ["--mesh", "2", "--placements", "S(99999999999999999999999)"],
            "expected numbers below 10^18",
        ),
        (["--mesh", "2", "--placements", f"S({'9' * 5000})"], "expected numbers below 10^18"),
        (["--mesh", "2", "--placements", f"_S(0,{'9' * 5000})"], "expected numbers below 10^18"),
        (["--mesh", "9" * 5000], "expected a mesh of 1 to"),
        (["--mesh", "9" * 20_000], "expected a mesh such as 128x8"),
        (["--mesh", "2", "--placements", "S(99)"], "shards dim 99"),
    ],
)
def test_impossible_layouts(checkpoint: Path, arguments: list[str], message: str) -> None:
    for command in (["reshard", checkpoint], ["simulate", "--from", checkpoint]):
        done = run(*command, *arguments)
        assert done.status == 2
        assert message in done.err


@pytest.mark.parametrize(
    "listed",
    [
        "[]",
        "{}",
        "text",
        '{"a": [-1]}',
        '{"a": [1.5]}',
        '{"a": {"shape": [2], "dtype": "float7"}}',
        '{"a": [9999999999, 9999999999]}',
    ],
)
def test_invalid_shapes(tmp_path: Path, listed: str) -> None:
    (tmp_path / "shapes.json").write_text(listed)
    done = run("simulate", "--shapes", tmp_path / "shapes.json", "--mesh", "2")
    assert done.status == 2
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("command", [["reshard"], ["simulate", "--from"]], ids=lambda one: one[0])
def test_a_missing_dim_is_an_error_unless_it_is_replicated(
    checkpoint: Path, command: list[str]
) -> None:
    wanted = [*command, checkpoint, "--mesh", "2"]
    rules = ["--placements", "R", "--placements", "model.half=S(1)"]
    done = run(*wanted, *rules)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "'model.half' of size [5] has 1 dim, and 'S(1)' shards dim 1" in done.err
    assert "--replicate-missing-dims" in done.err
    assert run(*wanted, *rules, "--replicate-missing-dims").status == 0
    done = run(*wanted, "--placements", "S(0)")
    assert "'model.scalar' of size [] has no dim, and 'S(0)' shards dim 0" in done.err


def test_the_default_rule_replicates_0d_tensors(checkpoint: Path) -> None:
    assert json_of("reshard", checkpoint, "--mesh", "2")["replicated_for_want_of_a_dim"] == 1
    done = run("reshard", checkpoint, "--mesh", "2")
    assert "1 tensor lacks a dim that it would be sharded by, and is replicated" in done.out
    assert run("simulate", "--from", checkpoint, "--mesh", "2").status == 0


def test_rules_by_name(checkpoint: Path) -> None:
    """The last matching pattern is used."""
    rules = ["--placements", "R", "--placements", "model.g*=S(0)"]
    data = json_of("reshard", checkpoint, "--mesh", "2", *rules)
    alone = json_of("reshard", checkpoint, "--mesh", "2", "--placements", "R")
    assert data["total_wanted_bytes"] == alone["total_wanted_bytes"] - 8 * 6 * 4
