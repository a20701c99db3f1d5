"""``report_of`` finds the report in any exception of a save or a load."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

import shardplan


@pytest.fixture
def failed(tmp_path: Path) -> CheckpointException:
    """Returns the exception of loading a key that was not saved."""
    dcp.save({"weight": torch.ones(2)}, checkpoint_id=tmp_path, no_dist=True)
    with pytest.raises(CheckpointException) as raised:
        dcp.load(
            {"wieght": torch.ones(2)},
            checkpoint_id=tmp_path,
            planner=shardplan.DefaultLoadPlanner(),
            no_dist=True,
        )
    return raised.value


def test_of_a_checkpoint_exception(failed: CheckpointException) -> None:
    report = shardplan.report_of(failed)
    assert report is not None
    assert report["missing"] == [{"name": "wieght", "near": ["weight"]}]
    assert shardplan.report_of(failed.failures[0][0]) == report
    assert shardplan.report_of(pickle.loads(pickle.dumps(failed.failures[0][0]))) == report


def test_of_an_error_raised_from_it(failed: CheckpointException) -> None:
    try:
        try:
            raise failed
        except CheckpointException as error:
            raise RuntimeError("the job cannot go on") from error
    except RuntimeError as error:
        assert shardplan.report_of(error) == shardplan.report_of(failed)


def test_of_the_lowest_rank_that_has_one() -> None:
    def reporting(**report: Any) -> ValueError:
        error = ValueError("wrong")
        error.report = report  # type: ignore[attr-defined]
        return error

    failures: Any = {
        7: (reporting(rank=7), None),
        0: (OSError("gone"), None),
        3: (reporting(rank=3), None),
    }
    assert shardplan.report_of(CheckpointException("", failures)) == {"rank": 3}


def test_of_an_error_without_one() -> None:
    error = ValueError("wrong")
    error.__context__ = other = KeyError("a")
    other.__context__ = error  # A cycle of causes ends.
    assert shardplan.report_of(error) is None
    assert shardplan.report_of(CheckpointException("", {})) is None
