"""Write results and metadata that are damaged in transit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata

import shardplan
from shardplan.dcp import wire
from shardplan.dcp.lazy.items import LazyList
from shardplan.dcp.upstream import versions

from .checkpoints import assert_same_checkpoint
from .planning import described
from .test_broken_plans import SOON, cut, flipped, of_another_version, state
from .world import Worlds

Break = Callable[[bytes], bytes]


def save(folder: Path, planner: Any = None) -> Metadata:
    metadata: Metadata = dcp.save(
        state(),
        storage_writer=shardplan.FileSystemWriter(folder, sync_files=False),
        planner=planner or shardplan.DefaultSavePlanner(),
    )
    return metadata


def breaking(kind: type, break_it: Break) -> Any:
    """Replaces the encoder of ``kind`` by one that damages its output."""
    pack = wire._PACKED[kind]

    def broken(obj: Any) -> Any:
        function, arguments = pack(obj)
        assert isinstance(arguments[0], bytes)
        return function, (break_it(arguments[0]), *arguments[1:])

    return pack, broken


def save_with_broken_results(base: Path, break_it: Break, at: int) -> Any:
    dist.barrier()
    started = time.monotonic()
    pack, broken = breaking(LazyList, break_it)
    if dist.get_rank() == at:
        wire._PACKED[LazyList] = broken
    try:
        with pytest.raises(CheckpointException) as caught:
            save(base / "broken")
    finally:
        wire._PACKED[LazyList] = pack
    took = time.monotonic() - started
    save(base / "next")
    dcp.save(state(), checkpoint_id=base / "upstream")
    return described(caught.value), took


@pytest.mark.parametrize("break_it", [cut, flipped, of_another_version])
@pytest.mark.parametrize("at", [0, 2])
def test_results(worlds: Worlds, tmp_path: Path, break_it: Break, at: int) -> None:
    """Every rank raises; the folder has no metadata, and the next save works."""
    for error, took in worlds[4].run(save_with_broken_results, tmp_path, break_it, at):
        _, _, failures = error
        assert list(failures) == [0]
        kind, text = failures[0]
        assert kind == "ValueError"
        assert text.startswith(f"rank {at}: the storage data from another rank cannot be read: it ")
        assert took < SOON
    assert not (tmp_path / "broken" / ".metadata").exists()
    assert_same_checkpoint(tmp_path / "next", tmp_path / "upstream")


def save_with_broken_metadata(base: Path, break_it: Break) -> Any:
    pack, broken = breaking(Metadata, break_it)
    wire._PACKED[Metadata] = broken
    try:
        metadata = save(base / "ours")
    finally:
        wire._PACKED[Metadata] = pack
    if dist.get_rank() == 0:
        return len(metadata.state_dict_metadata), ""
    if versions.finish_changes_its_argument():
        assert len(metadata.storage_data) > 0
    else:
        assert metadata.storage_data is None
    with pytest.raises(ValueError, match="cannot be read") as caught:
        len(metadata.state_dict_metadata)
    return 0, str(caught.value)


@pytest.mark.parametrize("break_it", [cut, flipped])
def test_metadata(worlds: Worlds, tmp_path: Path, break_it: Break) -> None:
    """The save is complete; accessing the damaged metadata raises an error."""
    (first, *others) = worlds[4].run(save_with_broken_metadata, tmp_path, break_it)
    assert first == (3, "")
    for _, text in others:
        assert text.startswith("the metadata from the coordinator cannot be read: it ")
    assert (tmp_path / "ours" / ".metadata").exists()


class Failing(shardplan.FileSystemWriter):
    """Fails on one rank in one step."""

    def __init__(self, folder: Path, step: str, at: int) -> None:
        super().__init__(folder, sync_files=False)
        self.failing = step, at

    def reach(self, step: str) -> None:
        if self.failing == (step, dist.get_rank()):
            raise OSError(f"{step} fails")

    def write_data(self, plan: Any, planner: Any) -> Any:
        self.reach("write_data")
        return super().write_data(plan, planner)

    def finish(self, metadata: Metadata, results: Any) -> None:
        self.reach("finish")
        super().finish(metadata, results)


def save_failing(base: Path, step: str, at: int) -> Any:
    writer = Failing(base / f"{step} {at}", step, at)
    with pytest.raises(CheckpointException) as caught:
        dcp.save(state(), storage_writer=writer, planner=shardplan.DefaultSavePlanner())
    return described(caught.value)


@pytest.mark.parametrize(("step", "at"), [("write_data", 2), ("write_data", 0), ("finish", 0)])
def test_failing_steps(worlds: Worlds, tmp_path: Path, step: str, at: int) -> None:
    for _, _, failures in worlds[4].run(save_failing, tmp_path, step, at):
        assert failures == {at: ("OSError", f"{step} fails")}
    assert not (tmp_path / f"{step} {at}" / ".metadata").exists()
