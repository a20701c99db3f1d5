"""The differences between torch releases are found as the installed torch really behaves."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan

from shardplan import default_planner
from shardplan.dcp import fallbacks
from shardplan.dcp.twins import validation
from shardplan.dcp.upstream import originals, versions


@pytest.fixture
def uncached() -> Iterator[None]:
    validation.messages_are_known.cache_clear()
    yield
    validation.messages_are_known.cache_clear()


def test_the_type_of_a_verdict() -> None:
    verdict = originals.validate_global_plan([SavePlan([])], Metadata({}))
    assert versions.validation_returns_messages() == isinstance(verdict, list)


def test_messages_are_known_if_upstream_returns_them(
    uncached: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert validation.messages_are_known() == versions.validation_returns_messages()
    assert not caplog.records


@pytest.mark.skipif(
    not versions.validation_returns_messages(), reason="this torch returns no messages"
)
@pytest.mark.parametrize("name", ["_OUTSIDE", "_SIZE", "_OVERLAP", "_FILL", "_VOLUME"])
def test_another_message_is_noticed(
    name: str, uncached: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, name, " another text ")
    assert not validation.messages_are_known()


@pytest.mark.skipif(
    not versions.validation_returns_messages(), reason="this torch returns no messages"
)
def test_another_order_is_noticed(uncached: None, monkeypatch: pytest.MonkeyPatch) -> None:
    overlaps = validation._overlaps
    monkeypatch.setattr(
        validation, "_overlaps", lambda boxes, size: reversed(list(overlaps(boxes, size)))
    )
    assert not validation.messages_are_known()


@pytest.mark.parametrize("rows", [2, 3])
def test_only_a_tensor_that_is_not_valid_is_left_to_upstream(
    uncached: None, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(versions, "validation_returns_messages", lambda: False)
    chunk = ChunkStorageMetadata(torch.Size([0]), torch.Size([rows]))
    saved = TensorStorageMetadata(TensorProperties(), torch.Size([2]), [chunk])
    plan, metadata = [SavePlan([]), SavePlan([])], Metadata({"w": saved})
    fallbacks.clear()
    verdict = default_planner._validate_global_plan(plan, metadata)
    assert verdict == originals.validate_global_plan(plan, metadata)
    assert len(fallbacks.fallbacks()) == (1 if rows > 2 else 0)


def test_finish_changes_its_argument(tmp_path: Path) -> None:
    writer = dcp.FileSystemWriter(tmp_path)
    metadata = dcp.save({"w": torch.ones(2)}, storage_writer=writer)
    assert isinstance(metadata, Metadata)
    assert versions.finish_changes_its_argument() == (metadata.storage_data is not None)
