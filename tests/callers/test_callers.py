"""The callers that need only torch, on two ranks with a small state, so that the harness is tested.

``make callers`` runs all of them, in environments of their own, and times them.
"""

from __future__ import annotations

import pytest

from .case import describe, names
from .world import run_case

QUICK = ("plain_dcp", "optimizer_sharded")


@pytest.mark.parametrize("name", QUICK)
def test_stock_and_shardplan_agree(name: str) -> None:
    result, output = run_case(name, 2, entries=200, rounds=0, timeout=120)
    assert result is not None, output
    assert result.problems == []
    assert result.calls["default_planner.create_default_local_save_plan"] >= 2
    assert result.calls["default_planner.create_default_local_load_plan"] >= 2
    assert result.entries >= 200
    assert result.tensors > 0


@pytest.mark.parametrize("name", names())
def test_every_case_describes_itself(name: str) -> None:
    case = describe(name)
    assert case.what
    assert all("==" in requirement for requirement in case.requirements)
