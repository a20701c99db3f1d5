"""A caller keeps plans in Metadata, as Megatron does: the file has upstream's globals only.

With torch 2.11, the file has no attributes that a caller adds to Metadata.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan

from parity.comparison import assert_same
from parity.implementations import OURS, UPSTREAM, Implementation
from parity.travel import sent, sent_upstream
from pickled import globals_of
from shardplan.dcp.upstream import originals, versions


def state_dict() -> dict[str, Any]:
    return {"model": {"b": torch.zeros(4), "a": torch.ones(())}, "steps": [3, {"x": "y"}]}


def keeping_planner(implementation: Implementation, travelled: bool) -> Any:
    """A planner that keeps every plan in the metadata."""

    class Keeping(implementation.DefaultSavePlanner):  # type: ignore[misc, name-defined]
        def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
            if travelled:
                all_plans = (sent if implementation is OURS else sent_upstream)(all_plans)
            global_plan, metadata = super().create_global_plan(all_plans)
            metadata.all_local_plans = all_plans
            metadata.all_global_plans = global_plan
            return global_plan, metadata

    return Keeping


def saved_by(implementation: Implementation, path: Path, travelled: bool) -> bytes:
    planner = keeping_planner(implementation, travelled)()
    dcp.save(state_dict(), checkpoint_id=path, planner=planner, no_dist=True)
    return (path / ".metadata").read_bytes()


@pytest.mark.parametrize("travelled", [False, True])
def test_the_file_has_the_same_globals_as_upstreams(tmp_path: Path, travelled: bool) -> None:
    ours = saved_by(OURS, tmp_path / "ours", travelled)
    upstream = saved_by(UPSTREAM, tmp_path / "upstream", travelled)
    assert globals_of(ours) == globals_of(upstream)
    keeps_plans = versions.finish_changes_its_argument()
    assert any("SavePlan" in name for name in globals_of(ours)) is keeps_plans
    assert b"shardplan" not in ours
    mine, theirs = pickle.loads(ours), pickle.loads(upstream)
    assert list(vars(mine)) == list(vars(theirs))
    names = ["all_local_plans", "all_global_plans"] if keeps_plans else []
    assert [name for name in vars(mine) if name.startswith("all_")] == names
    for name in ["state_dict_metadata", "planner_data", *names]:
        assert_same(getattr(mine, name), getattr(theirs, name), name)


def test_the_file_loads_without_shardplan(tmp_path: Path) -> None:
    saved_by(OURS, tmp_path, travelled=True)
    reader = textwrap.dedent(
        """
        import sys
        sys.modules["shardplan"] = None
        import torch, torch.distributed.checkpoint as dcp
        state_dict = {"model": {"b": torch.ones(4), "a": torch.zeros(())}, "steps": [0, {"x": ""}]}
        dcp.load(state_dict, checkpoint_id=sys.argv[1], no_dist=True)
        assert state_dict["model"]["b"].tolist() == [0, 0, 0, 0]
        assert state_dict["model"]["a"].item() == 1
        assert state_dict["steps"] == [3, {"x": "y"}]
        metadata = dcp.FileSystemReader(sys.argv[1]).read_metadata()
        if sys.argv[2] == "False":
            assert not hasattr(metadata, "all_local_plans")
            sys.exit()
        (plan,) = metadata.all_local_plans
        assert type(plan.items) is list and type(plan.planner_data) is dict
        assert [item.index.fqn for item in plan.items] == list(plan.planner_data)
        print(len(plan.items))
        """
    )
    keeps_plans = versions.finish_changes_its_argument()
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", reader, str(tmp_path), str(keeps_plans)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == ("4" if keeps_plans else "")


def test_a_plan_in_a_separate_file(tmp_path: Path) -> None:
    """torch.save of a plan, and of metadata whose chunks are lazy."""
    plan = sent(OURS.default_planner.create_default_local_save_plan(state_dict()["model"], True))
    made, metadata = OURS.default_planner.create_default_global_save_plan([plan])
    torch.save([plan, made, metadata], tmp_path / "plans")
    assert b"shardplan" not in (tmp_path / "plans").read_bytes()
    found = torch.load(tmp_path / "plans", weights_only=False)
    of_upstream = originals.create_default_local_save_plan(state_dict()["model"], True)
    expected = [of_upstream, *originals.create_default_global_save_plan([of_upstream])]
    assert_same(found, sent_upstream(expected))
