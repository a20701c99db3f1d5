"""The error of a load reports every mismatch; planner options enable stricter checks."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import Shard

import shardplan
from parity.implementations import UPSTREAM
from parity.worlds import dtensor_of, mesh_of, rank_of

SAVED = {
    "model": {"layer.weight": torch.arange(6.0), "layer.bias": torch.arange(3.0)},
    "step": 7,
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    dcp.save(SAVED, checkpoint_id=tmp_path, no_dist=True)
    return tmp_path


def load(state_dict: Any, checkpoint: Path, planner: Any) -> None:
    dcp.load(state_dict, checkpoint_id=checkpoint, planner=planner, no_dist=True)


def failure(state_dict: Any, checkpoint: Path, **options: Any) -> Any:
    with pytest.raises(CheckpointException) as caught:
        load(state_dict, checkpoint, shardplan.DefaultLoadPlanner(**options))
    ((error, _),) = caught.value.failures.values()
    return error


def upstream_failure(state_dict: Any, checkpoint: Path) -> Any:
    with pytest.raises(CheckpointException) as caught:
        load(state_dict, checkpoint, UPSTREAM.DefaultLoadPlanner())
    ((error, _),) = caught.value.failures.values()
    return error


def test_every_mismatch_is_reported_at_once(checkpoint: Path) -> None:
    state_dict = {
        "module": {"model": {"layer.weight": torch.zeros(6)}},
        "model": {"layer.bias": torch.zeros(4, dtype=torch.float64)},
        "step": torch.zeros(2),
        "absent": 1,
    }
    upstream = upstream_failure(state_dict, checkpoint)
    error = failure(state_dict, checkpoint)
    assert type(error) is type(upstream)
    first, _, more = str(error).partition("\n")
    assert first == str(upstream)
    report = error.report
    near = {one["name"]: one["near"] for one in report["missing"]}
    assert near == {"module.model.layer.weight": ["model.layer.weight"], "absent": []}
    assert report["unexpected"] == ["model.layer.weight"]
    assert report["sizes"] == [{"name": "model.layer.bias", "saved": [3], "wanted": [4]}]
    assert report["dtypes"][0]["saved"] == "torch.float32"
    assert report["kinds"] == [
        {"name": "step", "saved": "an object", "wanted": "a tensor of size [2]"}
    ]
    for fragment in (
        "2 of 4 keys of the state dict are not in the checkpoint: ",
        "module.model.layer.weight (similar: model.layer.weight)",
        "1 of 3 keys of the checkpoint is not in the state dict: model.layer.weight",
        "model.layer.bias (saved: [3], requested: [4])",
        "step (saved: an object, requested: a tensor of size [2])",
    ):
        assert fragment in more


def test_object_instead_of_tensor_is_reported_correctly(checkpoint: Path) -> None:
    state_dict = {"model": {"layer.weight": "text"}}
    error = failure(state_dict, checkpoint)
    assert str(error).split("\n")[0] == str(upstream_failure(state_dict, checkpoint))
    assert (
        "model.layer.weight (saved: a tensor of size [6], requested: an object of type str)"
        in str(error)
    )
    assert isinstance(error.__cause__, ValueError)


def test_report_is_small_and_survives_pickling(checkpoint: Path) -> None:
    state_dict = {f"absent.{at}." + "x" * 500: torch.zeros(1) for at in range(3_000)}
    error = failure(state_dict, checkpoint)
    sent = pickle.dumps(error)
    assert len(sent) < 64_000
    assert pickle.loads(sent).report == error.report
    assert error.report["missing_count"] == 3_000
    assert "and 2,980 more" in str(error)


def test_registered_upstream_planner_reports_too(checkpoint: Path) -> None:
    with shardplan.registered(), pytest.raises(CheckpointException) as caught:
        load({"absent": 1}, checkpoint, UPSTREAM.DefaultLoadPlanner())
    ((error, _),) = caught.value.failures.values()
    assert error.report["missing_count"] == 1


def test_a_failing_diagnosis_keeps_the_error(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from shardplan.dcp.reports import load_errors

    def differences(*_: Any) -> Any:
        raise LookupError("inside")

    monkeypatch.setattr(load_errors, "differences", differences)
    with caplog.at_level(logging.ERROR, "shardplan"):
        error = failure({"absent": 1}, checkpoint)
    assert str(error) == str(upstream_failure({"absent": 1}, checkpoint))
    assert "report of a failed load could not be created" in caplog.text


def test_not_strict_skips_and_lists_keys(checkpoint: Path) -> None:
    state_dict = {"model": {"layer.weight": torch.zeros(6)}, "absent": 5}
    planner = shardplan.DefaultLoadPlanner(strict=False)
    load(state_dict, checkpoint, planner)
    assert state_dict["absent"] == 5
    assert torch.equal(state_dict["model"]["layer.weight"], torch.arange(6.0))  # type: ignore[index]
    assert planner.missing_keys == ["absent"]
    assert planner.unexpected_keys == ["model.layer.bias", "step"]
    load({"model": {"layer.bias": torch.zeros(3)}}, checkpoint, planner)
    assert planner.missing_keys == []


def test_dtype_is_checked_on_request(checkpoint: Path) -> None:
    wanted = {"model": {"layer.weight": torch.zeros(6, dtype=torch.int32)}, "step": 1}
    load(wanted, checkpoint, shardplan.DefaultLoadPlanner())
    error = failure(wanted, checkpoint, check_dtype=True)
    assert type(error) is ValueError
    assert "model.layer.weight (saved: torch.float32, requested: torch.int32)" in str(error)
    as_tensor = {"step": torch.zeros(1)}
    assert "step (saved: an object" in str(failure(as_tensor, checkpoint, check_dtype=True))
    same = {"model": {"layer.weight": torch.zeros(6)}, "step": 1}
    load(same, checkpoint, shardplan.DefaultLoadPlanner(check_dtype=True))


def without_a_chunk(checkpoint: Path, name: str) -> None:
    """Returns the metadata without one chunk, as if a rank were missing from the save."""
    file = checkpoint / ".metadata"
    metadata = pickle.loads(file.read_bytes())
    saved = metadata.state_dict_metadata[name]
    whole = saved.chunks.pop()
    for start in (0, 4):
        offsets, sizes = torch.Size([start]), torch.Size([2])
        saved.chunks.append(type(whole)(offsets, sizes))
        key = type(next(iter(metadata.storage_data)))(name, offsets)
        metadata.storage_data[key] = next(iter(metadata.storage_data.values()))
    file.write_bytes(pickle.dumps(metadata))


def test_coverage_is_checked_on_request(checkpoint: Path) -> None:
    without_a_chunk(checkpoint, "model.layer.weight")
    planner = shardplan.DefaultLoadPlanner(check_coverage=True)
    planner.set_up_planner(
        {"model": {"layer.weight": torch.zeros(6)}},
        shardplan.FileSystemReader(checkpoint).read_metadata(),
        True,
    )
    with pytest.raises(
        ValueError, match=r"^No saved box covers model\.layer\.weight\[2:4\]$"
    ) as caught:
        planner.create_local_plan()
    assert caught.value.report["holes"] == [  # type: ignore[attr-defined]
        {"name": "model.layer.weight", "offsets": [2], "sizes": [2]}
    ]
    upstream = UPSTREAM.DefaultLoadPlanner()
    upstream.set_up_planner(planner.original_state_dict, planner.metadata, True)
    assert len(upstream.create_local_plan().items) == 2


@pytest.mark.parametrize(("rank", "covered"), [(0, True), (1, False), (2, True)])
def test_coverage_of_one_ranks_shard(checkpoint: Path, rank: int, covered: bool) -> None:
    """Only the rank that wants the missing chunk fails."""
    without_a_chunk(checkpoint, "model.layer.weight")
    metadata = shardplan.FileSystemReader(checkpoint).read_metadata()
    with rank_of(rank, 3):
        wanted = dtensor_of((6,), mesh_of((3,)), (Shard(0),))
        planner = shardplan.DefaultLoadPlanner(check_coverage=True)
        planner.set_up_planner({"model.layer.weight": wanted}, metadata, True)
        if covered:
            assert len(planner.create_local_plan().items) == 1
        else:
            with pytest.raises(ValueError, match="No saved box covers"):
                planner.create_local_plan()


def test_complete_checkpoint_passes_every_check(checkpoint: Path) -> None:
    state_dict = {
        "model": {"layer.weight": torch.zeros(6), "layer.bias": torch.zeros(3)},
        "step": 0,
    }
    planner = shardplan.DefaultLoadPlanner(check_dtype=True, check_coverage=True)
    load(state_dict, checkpoint, planner)
    assert state_dict["step"] == 7
    assert (planner.missing_keys, planner.unexpected_keys) == ([], [])
