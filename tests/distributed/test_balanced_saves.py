"""``DefaultSavePlanner(dedup="bytes")``: replicas are spread evenly, and upstream loads them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan

import shardplan
from plan_caches import clear_plan_caches
from shardplan.dcp import fallbacks

from .checkpoints import Held, identical, load_as, save_as, whole, writer
from .state_dicts import BUILDERS
from .world import Worlds

RANKS = 4


def save_balanced(layout: str, folders: dict[str, Path]) -> tuple[Held, list[Metadata]]:
    return save_as(layout, folders, dedup="bytes")


@pytest.mark.parametrize("layout", BUILDERS)
def test_upstream_loads_it(worlds: Worlds, tmp_path: Path, layout: str) -> None:
    folders = {"ours": tmp_path / "balanced"}
    saved = [held for held, _ in worlds[RANKS].run(save_balanced, layout, folders)]
    for who in ("upstream", "ours"):
        loaded = worlds[RANKS].run(load_as, layout, list(folders.values()), who)
        assert identical(whole([held for (held,) in loaded]), whole(saved))
    command = [sys.executable, "-m", "shardplan", "verify", str(folders["ours"]), "--deep"]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def state_of(numbers: list[int]) -> dict[str, torch.Tensor]:
    """Replicated tensors of these numbers of bytes, and one that only this rank has."""
    state = {f"t{at}": torch.full((n,), at, dtype=torch.uint8) for at, n in enumerate(numbers)}
    rank = dist.get_rank()
    state[f"of rank {rank}"] = torch.zeros(1000 * rank, dtype=torch.uint8)
    return state


def bytes_of_ranks(numbers: list[int], dedup: str) -> int:
    """Plans a save. Returns the bytes of tensors that this rank writes."""
    planner = shardplan.DefaultSavePlanner(dedup=dedup)
    planner.set_up_planner(state_of(numbers), None, dist.get_rank() == 0)
    plans: list[Any] = [None] * RANKS
    dist.all_gather_object(plans, planner.create_local_plan())
    final = planner.create_global_plan(plans)[0][dist.get_rank()]
    written: int = sum(item.tensor_data.chunk.sizes.numel() for item in final.items)
    return written


def test_the_bytes_of_the_ranks_are_even(worlds: Worlds) -> None:
    # In upstream's order the largest comes last.
    numbers = [100] * 40 + [700] * 9 + [3000]
    upstream, balanced = (
        worlds[RANKS].run(bytes_of_ranks, numbers, dedup) for dedup in ("upstream", "bytes")
    )
    mean = sum(upstream) / RANKS
    assert sum(balanced) == sum(upstream)
    assert max(upstream) > 1.1 * mean
    assert max(balanced) <= mean + 100


class Odd:
    """An item of a class of the caller, which tells its bytes itself."""

    def __init__(self, item: Any) -> None:
        self.index, self.type, self.tensor_data = item.index, item.type, item.tensor_data
        self.tensor_storage_size = item.tensor_storage_size


class Unknown(Odd):
    """An item that native code does not read."""

    def __init__(self, item: Any) -> None:
        super().__init__(item)
        self.tensor_storage_size = lambda: 2.0**70


@pytest.mark.parametrize(("kind", "counted"), [(Odd, 0), (Unknown, 1)])
def test_items_of_the_caller(kind: Any, counted: int) -> None:
    """Those that cannot be read are distributed by upstream's rule."""
    plans = []
    for rank in range(2):
        planner = shardplan.DefaultSavePlanner(dedup="bytes", flatten_state_dict=False)
        planner.set_up_planner({"w": torch.zeros(8), "v": torch.zeros(9)}, None, rank == 0)
        plans.append(SavePlan([kind(item) for item in planner.create_local_plan().items]))
    fallbacks.clear()
    deduped = planner._dedup_save_plans(plans)
    names = [[item.index.fqn for item in plan.items] for plan in deduped]
    assert names == ([["w"], ["v"]] if counted else [["v"], ["w"]])
    reason = "dedup: the bytes of an item are unknown, so upstream's rule is used"
    assert fallbacks.fallbacks().get(reason, 0) == counted


def save_cached(folder: Path) -> None:
    clear_plan_caches()
    for turn in range(3):
        state = {f"t{at}": torch.full((10 * at,), turn) for at in range(1, 9)}
        planner = shardplan.DefaultSavePlanner(dedup="bytes", enable_plan_caching=True)
        dcp.save(state, storage_writer=writer(folder / str(turn)), planner=planner)
        blank = {key: torch.zeros_like(value) for key, value in state.items()}
        dcp.load(blank, checkpoint_id=folder / str(turn))
        assert identical(blank, state)


def test_plans_are_stable_between_saves(worlds: Worlds, tmp_path: Path) -> None:
    worlds[2].run(save_cached, tmp_path)
    sizes = [
        {file.name: file.stat().st_size for file in folder.glob("*.distcp")}
        for folder in sorted(tmp_path.iterdir())
    ]
    assert len(sizes) == 3 and sizes[0] == sizes[1] == sizes[2]


@pytest.mark.parametrize(
    "options", [{"dedup": "byte"}, {"dedup": "bytes", "dedup_save_to_lowest_rank": True}], ids=str
)
def test_arguments_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="dedup"):
        shardplan.DefaultSavePlanner(**options)


def balance(*options: str) -> float:
    command = [sys.executable, "-m", "shardplan", "simulate", "--model", "llama3-8b", "--mesh"]
    command += ["4x8", "--placements", "R,S(0)", "--replicate-missing-dims", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    spread = json.loads(done.stdout)["rank_bytes"]
    ratio: float = spread["most"] / spread["mean"]
    return ratio


def test_it_can_be_simulated() -> None:
    assert balance("--dedup", "bytes") < 1.02 < balance()
