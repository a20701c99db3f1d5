"""The error of an invalid plan reports what is wrong, where, and on which rank."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import (
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)

import shardplan
from parity.comparison import Raised, answer
from parity.implementations import OURS, UPSTREAM, Implementation
from parity.verdicts import pattern_of_error

Box = tuple[list[int], list[int]]


def item(name: str, shape: list[int], box: Box) -> WriteItem:
    offsets, sizes = map(torch.Size, box)
    return WriteItem(
        MetadataIndex(name, offsets),
        WriteItemType.SHARD,
        tensor_data=TensorWriteData(
            ChunkStorageMetadata(offsets, sizes), TensorProperties(), torch.Size(shape)
        ),
    )


def plans_of(shape: list[int], ranks: Iterable[list[Box]], name: str = "w") -> list[SavePlan]:
    return [SavePlan([item(name, shape, box) for box in boxes], planner_data={}) for boxes in ranks]


def failure(plans: list[SavePlan], keep_replicas: bool = False) -> Any:
    """Returns shardplan's planning error; its first line is upstream's message."""

    class Keeping:
        def _dedup_save_plans(self, all_plans: list[SavePlan]) -> list[SavePlan]:
            return all_plans

    def plan(implementation: Implementation) -> Any:
        base = implementation.DefaultSavePlanner
        cls = type("Keeping", (Keeping, base), {}) if keep_replicas else base
        planner = cls()
        planner.set_up_planner({}, is_coordinator=True)
        return planner.create_global_plan(plans)

    upstream = answer(plan, UPSTREAM)
    assert isinstance(upstream, Raised)
    with pytest.raises(upstream.kind) as caught:
        plan(OURS)
    assert type(caught.value) is upstream.kind
    assert str(caught.value).split("\n", 1)[0] == upstream.message
    return caught.value


def shards(length: int, ranks: Iterable[int]) -> list[list[Box]]:
    return [[([rank * length], [length])] for rank in ranks]


def test_hole_is_reported_as_boxes_with_the_absent_ranks() -> None:
    every_second = [
        boxes if rank % 2 == 0 else [] for rank, boxes in enumerate(shards(2, range(6)))
    ]
    error = failure(plans_of([12], every_second))
    (tensor,) = error.report["tensors"]
    assert tensor["hole"] == {
        "count": 3,
        "elements": 6,
        "boxes": [
            {"offsets": [2], "sizes": [2]},
            {"offsets": [6], "sizes": [2]},
            {"offsets": [10], "sizes": [2]},
        ],
    }
    assert "ranks 1, 3, ..., 5 (every second) of 6 have no part of it" in tensor["cause"]
    assert "[2:4], [6:8], [10:12]" in str(error)


def test_ranks_whose_replicas_were_dropped_are_not_absent() -> None:
    """Ranks 2 and 3 have the same boxes as ranks 0 and 1; no rank has the others."""
    error = failure(plans_of([12], [*shards(4, (0, 1)), *shards(4, (0, 1))]))
    (tensor,) = error.report["tensors"]
    assert tensor["hole"]["boxes"] == [{"offsets": [8], "sizes": [4]}]
    assert "have no part" not in (tensor["cause"] or "")


def test_kept_replicas_name_their_ranks() -> None:
    error = failure(plans_of([4], [*shards(2, (0, 1)), *shards(2, (0, 1))]), keep_replicas=True)
    (tensor,) = error.report["tensors"]
    assert tensor["overlap"]["count"] == 2
    assert {tensor["overlap"]["pairs"][0][side]["rank"] for side in "ab"} == {0, 2}
    assert "every box is saved 2 times, one of them by ranks 0 and 2" in tensor["cause"]


def test_local_tensors_without_offsets() -> None:
    error = failure(plans_of([8], [[([0], [4])], [([0], [5])]]), keep_replicas=True)
    assert "every box begins at [0]" in error.report["tensors"][0]["cause"]


def test_strided_shard_saved_as_one_box() -> None:
    error = failure(plans_of([8], [[([0], [4])], [([2], [4])]]))
    assert "_StridedShard" in error.report["tensors"][0]["cause"]


def test_boxes_of_another_size() -> None:
    error = failure(plans_of([7, 3], [[([0, 0], [4, 3])], [([4, 0], [4, 3])]]))
    (tensor,) = error.report["tensors"]
    assert tensor["out_of_bounds"]["boxes"] == [{"rank": 1, "offsets": [4, 0], "sizes": [4, 3]}]
    assert "fill a tensor of size [8, 3] exactly" in tensor["cause"]


def test_worst_comes_first_and_others_are_counted() -> None:
    plans = [SavePlan([], planner_data={}) for _ in range(2)]
    for at in range(9):
        plans[0].items.append(item(f"t{at}", [10], ([0], [9 - at])))
    error = failure(plans)
    assert [tensor["name"] for tensor in error.report["tensors"]] == [
        f"t{at}" for at in range(8, -1, -1)
    ]
    assert (error.report["bad"], error.report["checked"], error.report["left_out"]) == (9, 9, 0)
    assert "9 of 9 entries are not saved exactly once, worst first" in str(error)
    assert str(error).endswith("and 4 more tensors")


def test_report_survives_pickling_and_stays_small() -> None:
    """Every rank gets a copy: a thousand bad tensors with long names and many dims."""
    ranks = [
        SavePlan(
            [item(f"{at}" * 400, [4] * 30, ([rank] * 30, [2] * 30)) for at in range(300)],
            planner_data={},
        )
        for rank in range(3)
    ]
    error = failure(ranks)
    sent = pickle.dumps(error)
    assert len(sent) < 64_000
    copy = pickle.loads(sent)
    assert type(copy) is ValueError
    assert copy.report == error.report
    assert str(copy) == str(error)
    assert error.report["left_out"] + len(error.report["tensors"]) == 300


def test_complete_report_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    plans = [SavePlan([], planner_data={}) for _ in range(2)]
    for at in range(9):
        plans[0].items.append(item(f"t{at}", [10], ([0], [9 - at])))
    with caplog.at_level(logging.ERROR, "shardplan"):
        failure(plans)
    (record,) = [each for each in caplog.records if each.name.startswith("shardplan")]
    assert all(f"t{at} of size" in record.getMessage() for at in range(9))


def test_registered_upstream_planner_reports_too() -> None:
    with shardplan.registered():
        planner = UPSTREAM.DefaultSavePlanner()
        planner.set_up_planner({}, is_coordinator=True)
        with pytest.raises(ValueError, match=pattern_of_error("invalid fill")) as caught:
            planner.create_global_plan(plans_of([8], [[([0], [4])], []]))
    assert caught.value.report["tensors"][0]["hole"]["elements"] == 4  # type: ignore[attr-defined]


def test_volumes_beyond_int64() -> None:
    error = failure(plans_of([2**40, 2**40], [[([0, 0], [2**39, 2**40])], []]))
    assert error.report["tensors"][0]["hole"]["elements"] == 2**79


def test_numbers_beyond_int64_have_only_upstreams_message() -> None:
    error = failure(plans_of([4], [[([2**63 - 2], [4])], []]))
    assert not hasattr(error, "report")


def test_materialized_items_are_identified_by_their_boxes() -> None:
    """A hook that reads items and chunks materializes them, so their columns are gone."""

    class Reading(shardplan.DefaultSavePlanner):
        def _dedup_save_plans(self, all_plans: list[SavePlan]) -> list[SavePlan]:
            return [SavePlan(list(plan.items), planner_data={}) for plan in all_plans]

    planner = Reading()
    planner.set_up_planner({}, is_coordinator=True)
    with pytest.raises(ValueError, match=pattern_of_error("overlapping")) as caught:
        planner.create_global_plan(plans_of([8], [[([0], [5])], [([4], [4])]]))
    (pair,) = caught.value.report["tensors"][0]["overlap"]["pairs"]  # type: ignore[attr-defined]
    assert [pair[side]["rank"] for side in "ab"] == [0, 1]


def test_one_info_line_per_plan(caplog: pytest.LogCaptureFixture) -> None:
    planner = shardplan.DefaultSavePlanner()
    planner.set_up_planner({"w": torch.zeros(100)}, is_coordinator=True)
    with caplog.at_level(logging.INFO, "shardplan"):
        _, metadata = planner.create_global_plan([planner.create_local_plan()])
        loader = shardplan.DefaultLoadPlanner()
        loader.set_up_planner({"w": torch.zeros(100)}, metadata, is_coordinator=True)
        loader.create_global_plan([loader.create_local_plan()])
    messages = [each.getMessage() for each in caplog.records if "plan_log" in each.name]
    assert len(messages) == 2
    bytes_moved = "1 items of 1 ranks; tensor bytes per rank: min 400 bytes, mean 400 bytes"
    assert messages[0].startswith(f"save plan: {bytes_moved}")
    assert all(
        stage in messages[0] for stage in ("local plan", "dedup", "global plan", "validation")
    )
    assert messages[1].startswith(f"load plan: {bytes_moved}")


def test_nothing_is_counted_if_logging_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from shardplan.dcp.planners import plan_log

    def written(plans: Any) -> Any:
        raise AssertionError("counted")

    monkeypatch.setattr(plan_log.native, "written", written)
    planner = shardplan.DefaultSavePlanner()
    planner.set_up_planner({"w": torch.zeros(4)}, is_coordinator=True)
    planner.create_global_plan([planner.create_local_plan()])
