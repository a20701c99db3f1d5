"""Validation finds the faults of a global plan, and reports them with upstream's messages."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan

from parity.boxes import (
    BROKEN_CHUNKS,
    chunk,
    column_chunks,
    grid_chunks,
    raw_chunk,
    row_chunks,
    tensor_metadata,
)
from parity.comparison import answer, assert_same, assert_same_answer
from parity.implementations import OURS, Implementation
from parity.verdicts import VALID, has_faults
from shardplan.dcp.upstream import originals, versions

ONE = [SavePlan([])]
TWO = [SavePlan([]), SavePlan([])]


def check(metadata: Any, plans: Any = TWO) -> Any:
    return assert_same_answer(
        OURS.default_planner._validate_global_plan, originals.validate_global_plan, plans, metadata
    )


def check_chunks(chunks: Any, shape: tuple[int, ...] = (4, 4)) -> Any:
    for plans in (ONE, TWO):
        found = check(Metadata({"w": tensor_metadata(shape, chunks)}), plans)
    return found


def test_valid_plans(implementation: Implementation) -> None:
    metadata = Metadata(
        {
            "rows": tensor_metadata((9, 4), row_chunks(9, 4, 4)),
            "columns": tensor_metadata((4, 9), column_chunks((4,), 9, 4)),
            "grid": tensor_metadata((5, 6, 7), grid_chunks((5, 6, 7), (2, 3, 4))),
            "0-d": tensor_metadata((), [chunk((), ())]),
            "zero-size": tensor_metadata((0, 3), row_chunks(0, 3, 3)),
            "bytes": BytesStorageMetadata(),
        }
    )
    assert_same(implementation.default_planner._validate_global_plan(TWO, metadata), VALID)


def test_faults_are_reported(
    implementation: Implementation, caplog: pytest.LogCaptureFixture
) -> None:
    """The messages are logged, and returned if upstream returns them."""
    metadata = Metadata(
        {
            "far": tensor_metadata((4,), [chunk((2,), (4,))]),
            "twice": tensor_metadata((4,), [chunk((0,), (2,)), chunk((1,), (2,))]),
            "hole": tensor_metadata((4,), [chunk((0,), (2,))]),
        }
    )
    with caplog.at_level(logging.WARNING):
        verdict = implementation.default_planner._validate_global_plan(TWO, metadata)
    found = [" ".join(record.getMessage().split()) for record in caplog.records]
    assert has_faults(verdict, 3)
    if versions.validation_returns_messages():
        assert verdict == found
    assert [message.split()[0] for message in found] == ["key:far", "key:twice", "key:hole"]
    assert "out of bounds" in found[0]
    assert "overlapping" in found[1]
    assert found[2].endswith("invalid fill tensor-volume: 4 chunks-volume: 2")


def test_one_plan_need_not_cover() -> None:
    metadata = Metadata({"w": tensor_metadata((4,), [chunk((0,), (2,))])})
    assert check(metadata, ONE) == VALID
    assert has_faults(check(metadata, TWO), 1)


def test_warnings_are_upstreams(caplog: pytest.LogCaptureFixture) -> None:
    """Upstream logs each message as a warning by its own logger; shardplan does so too, once."""
    metadata = Metadata(
        {"w": tensor_metadata((4,), [chunk((2,), (4,))]), "x": tensor_metadata((), [])}
    )
    with caplog.at_level(logging.WARNING):
        originals.validate_global_plan(ONE, metadata)
        expected = [(record.name, record.message) for record in caplog.records]
        caplog.clear()
        OURS.default_planner._validate_global_plan(ONE, metadata)
    assert [(record.name, record.message) for record in caplog.records] == expected
    assert len(expected) == 1


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        row_chunks(4, 4, 4) + row_chunks(4, 2, 4),
        row_chunks(4, 2, 4) * 2,
        row_chunks(4, 2, 4)[::-1],
        [chunk((0, 0), (4, 4)), chunk((2, 2), (0, 0))],
        [chunk((2, 2), (0, 0)), chunk((0, 0), (4, 4))],
        [chunk((0, 0), (4, 4)), chunk((4, 0), (0, 4)), chunk((0, 4), (4, 0))],
        [chunk((0, 0), (2, 4)), chunk((2, 0), (2, 4)), chunk((2, 1), (0, 1))],
        [chunk((1, 1), (0, 0))] * 3,
        [chunk((0, 0), (4, 2)), chunk((0, 2), (4, 3))],
        [chunk((0, 0), (5, 4)), chunk((-1, 0), (0, 4))],
        [chunk((0, 0), (4, 2)), chunk((0, 2), (2, 2))],
    ],
)
def test_wrong_and_unusual_layouts(chunks: Any) -> None:
    check_chunks(chunks)


@pytest.mark.parametrize("broken", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_broken_chunk(broken: Any) -> None:
    whole = row_chunks(4, 2, 4)
    for chunks in ([broken], [broken, *whole], [*whole, broken], [broken, broken]):
        check_chunks(chunks)


@pytest.mark.parametrize(
    "chunks",
    [None, (), tuple(row_chunks(4, 2, 4)), {}, "chunks", 3, dict(enumerate(row_chunks(4, 2, 4)))],
)
def test_chunks_that_are_not_a_list(chunks: Any) -> None:
    check_chunks(chunks)


@pytest.mark.parametrize(
    "size",
    [
        (4, 4),
        [4, 4],
        (),
        (0, 4),
        (-1, 4),
        (2**63, 4),
        (4.0, 4.0),
        (True, 4),
        ("4", "4"),
        (None, 4),
        None,
        4,
        "44",
        torch.tensor([4, 4]),
    ],
    ids=repr,
)
def test_size_of_any_type(size: Any) -> None:
    for chunks in ([], row_chunks(4, 2, 4), [chunk((0, 0), (1, 4))]):
        metadata = TensorStorageMetadata(properties=TensorProperties(), size=size, chunks=chunks)
        check(Metadata({"w": metadata}))


@pytest.mark.parametrize(
    "saved", [None, {}, [], {"w": None}, {"w": 3}, {"w": object()}, {3: BytesStorageMetadata()}]
)
def test_metadata_of_any_type(saved: Any) -> None:
    check(Metadata(saved))
    check(saved)


@pytest.mark.parametrize("plans", [None, (), [], 3, (SavePlan([]),), [None, None]], ids=repr)
def test_plans_of_any_type(plans: Any) -> None:
    for metadata in (
        Metadata({}),
        Metadata({"w": tensor_metadata((4,), [chunk((0,), (2,))])}),
        Metadata({"w": tensor_metadata((4, 4), row_chunks(4, 2, 4))}),
    ):
        check(metadata, plans)


def test_error_among_valid_tensors_keeps_its_position() -> None:
    """An AttributeError in one tensor comes after the messages and warnings of earlier tensors."""
    whole = tensor_metadata((4, 4), row_chunks(4, 2, 4))
    hole = tensor_metadata((4,), [chunk((0,), (2,))])
    broken = tensor_metadata((4, 4), [None])
    for state in (
        {"a": hole, "b": whole, "c": broken},
        {"a": broken, "b": hole},
        {"a": whole, "b": hole, "c": hole},
    ):
        check(Metadata(state))


def test_numbers_of_int_subclasses() -> None:
    class Number(int):
        def __repr__(self) -> str:
            return f"Number({int(self)})"

    zero, four = Number(0), Number(4)
    check_chunks([raw_chunk((zero, zero), (four, four))])
    check_chunks([raw_chunk((zero, zero), (four, Number(5)))])


def test_second_call_validates_again() -> None:
    """Nothing is cached by identity, because callers change a metadata's size in place."""
    metadata = Metadata({"w": tensor_metadata((4,), [chunk((0,), (4,))])})
    assert check(metadata) == VALID
    metadata.state_dict_metadata["w"].size = torch.Size((5,))
    assert has_faults(check(metadata), 1)
    metadata.state_dict_metadata["w"].chunks.append(chunk((4,), (1,)))
    assert check(metadata) == VALID


def test_raised_by_the_planner(implementation: Implementation) -> None:
    """The planner's error is upstream's; it has the messages, if any, cut at 500 characters."""
    planner = implementation.DefaultSavePlanner(flatten_state_dict=False)
    planner.set_up_planner({}, None, True)
    plans = []
    for rank in range(2):
        state_dict = {f"weight{i:03}.{'x' * 30}": torch.zeros(4) for i in range(9)}
        plan = originals.create_default_local_save_plan(state_dict, rank == 0)
        for item in plan.items:
            item.tensor_data.chunk.sizes = torch.Size((3,))
        plans.append(plan)
    upstream = originals.DefaultSavePlanner(flatten_state_dict=False)
    upstream.set_up_planner({}, None, True)
    expected = answer(upstream.create_global_plan, copy.deepcopy(plans))
    found = answer(planner.create_global_plan, plans)
    assert_same(found, expected)
    assert_same(found.kind, ValueError)
    if not versions.validation_returns_messages():
        assert found.message == "Failed to validate global plan"
        return
    assert found.message.startswith("Failed to validate global plan: key:weight000")
    assert found.message.endswith("... (truncated)")
    assert len(found.message) == len("Failed to validate global plan: ") + 500 + 15
