"""``reshard --schedule`` names the parts that a load plan has, and counts what the reader reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

import shardplan
from benchmarks.workloads import Boxes, grid, kd_split, sharded, world
from benchmarks.workloads.stored import save_boxes
from cli.commands import json_of, run
from shardplan.dcp.native import native

SHAPE = (1_000, 1_024)

LAYOUTS = {
    "rows": sharded(SHAPE, 0, 50),
    "columns": sharded(SHAPE, 1, 16),
    "grid": grid(SHAPE, (7, 9)),
    "k-d": kd_split(SHAPE, 40),
    "one": sharded(SHAPE, 0, 1),
}


def counts_of_a_load(folder: Path, rank: int, ranks: int, dim: int) -> tuple[Any, Any]:
    """Loads the tensor of a rank. Returns the items of its plan and the report."""
    reader = shardplan.FileSystemReader(folder, thread_count=1)
    planner = shardplan.DefaultLoadPlanner()
    metadata = reader.read_metadata()
    with world(rank, ranks):
        local = torch.zeros(torch.zeros(SHAPE).chunk(ranks, dim)[rank].shape)
        target = DTensor.from_local(
            local, init_device_mesh("cpu", (ranks,)), [Shard(dim)], run_check=False
        )
        planner.set_up_planner({"weight": target}, metadata, True)
        reader.set_up_storage_reader(metadata, True)
        plan = planner.create_local_plan()
        report = native.load_planned(
            plan.items,
            metadata.storage_data.columns(),
            planner.state_dict,
            planner.lookup_tensor,
            str(folder) + "/",
            threads=1,
            memory=1 << 26,
            verify=False,
            progress=None,
            read_range=None,
            safetensors=None,
        )
    items = {
        (
            metadata.storage_data[item.storage_index].offset,
            tuple(item.storage_offsets),
            tuple(item.lengths),
        )
        for item in plan.items
    }
    return items, report


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_reads_are_those_of_a_load(layout: str, dim: int, tmp_path: Path) -> None:
    boxes: Boxes = LAYOUTS[layout]
    save_boxes(tmp_path, "weight", torch.randn(SHAPE), boxes)
    data = json_of(
        "reshard", tmp_path, "--mesh", "4", "--placements", f"S({dim})", "--schedule", "--rank", "2"
    )
    schedule = data["schedule"]
    items, report = counts_of_a_load(tmp_path, 2, 4, dim)
    parts = {
        (part["first_byte"], tuple(part["offsets"]), tuple(part["sizes"]))
        for part in schedule["parts"]
    }
    assert parts == items
    assert schedule["wanted_bytes"] == report.bytes_wanted == data["per_rank"]["wanted_bytes"][2]
    assert schedule["read_bytes"] == pytest.approx(report.bytes_read, rel=0.03)
    assert schedule["reads"] == pytest.approx(report.reads, rel=0.1)


def test_the_table(tmp_path: Path) -> None:
    save_boxes(tmp_path, "weight", torch.randn(SHAPE), LAYOUTS["rows"])
    done = run("reshard", tmp_path, "--mesh", "4", "--schedule", "--rows", "3")
    assert done.status == 0
    assert "reads of rank 0, in order" in done.out
    assert "__0_0.distcp" in done.out and "[0:20, 0:1024]" in done.out
    assert "and 10 more parts" in done.out
    assert "rank 0 wants 1.02 MB, and shardplan's reader reads" in done.out
    done = run("reshard", tmp_path, "--mesh", "4", "--schedule", "--rank", "4")
    assert done.status == 2
    assert "--rank 4: the mesh has ranks 0 to 3" in done.err
