"""The callers that need only torch, on two ranks with a small state, so that the harness is tested.

``make callers`` runs all of them, in environments of their own, and times them.
"""

from __future__ import annotations

import pytest

from .case import describe, names
from .world import run_cases

QUICK = ("plain_dcp", "optimizer_sharded")
#: Functions of shardplan that run on each rank.
PLANNING = ("create_default_local_save_plan", "create_default_local_load_plan")


def test_upstream_and_shardplan_agree() -> None:
    results, output = run_cases(QUICK, 2, entries=100, rounds=0, timeout=240)
    assert [result.case for result in results] == list(QUICK), output
    for result in results:
        assert result.problems == []
        assert result.entries >= 100
        assert result.tensors > 0
        for function in PLANNING:
            assert result.calls[f"shardplan.default_planner.{function}"] >= 2


@pytest.mark.parametrize("name", names())
def test_every_case_describes_itself(name: str) -> None:
    case = describe(name)
    assert case.what
    assert all("==" in requirement for requirement in case.requirements)
