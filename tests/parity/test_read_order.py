"""The order in which a load reads entries that are no tensors: file by file, as upstream does."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.planner import ReadItem

import shardplan


class Noting:
    """Notes the calls of ``load_bytes``."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def load_bytes(self, item: ReadItem, value: io.BytesIO) -> None:
        self.seen.append(item.dest_index.fqn)
        super().load_bytes(item, value)  # type: ignore[misc]


class Theirs(Noting, dcp.DefaultLoadPlanner):
    pass


class Ours(Noting, shardplan.DefaultLoadPlanner):
    pass


def drawn(seed: int) -> dict[str, Any]:
    """Tensors and objects of many sizes, which a writer spreads over its files."""
    draw = random.Random(seed)
    return {
        f"k{at}": torch.zeros(draw.randint(1, 50))
        if draw.random() < 0.6
        else "x" * draw.randint(1, 50)
        for at in range(8)
    }


@pytest.mark.parametrize("seed", range(8))
def test_load_bytes_is_called_in_upstreams_order(seed: int, tmp_path: Path) -> None:
    state = drawn(seed)
    writer = dcp.FileSystemWriter(tmp_path, thread_count=3, sync_files=False)
    dcp.save(state, storage_writer=writer, no_dist=True)
    seen = []
    for planner, reader in (
        (Theirs(), dcp.FileSystemReader(tmp_path)),
        (Ours(), shardplan.FileSystemReader(tmp_path)),
    ):
        target = {
            name: torch.ones_like(value) if isinstance(value, torch.Tensor) else None
            for name, value in state.items()
        }
        dcp.load(target, storage_reader=reader, planner=planner, no_dist=True)
        seen.append(planner.seen)
    assert seen[0] == seen[1]


def test_the_order_of_new_keys(tmp_path: Path) -> None:
    """A load adds entries under int keys as new keys, in the order of its reads."""
    values = [torch.zeros(60), "a", "b" * 60, "c", "d" * 50, "e"]
    writer = dcp.FileSystemWriter(tmp_path, thread_count=2, sync_files=False)
    dcp.save({"n": dict(enumerate(values))}, storage_writer=writer, no_dist=True)
    orders = []
    for reader in (dcp.FileSystemReader(tmp_path), shardplan.FileSystemReader(tmp_path)):
        target: dict[str, Any] = {"n": {at: None for at in range(1, 6)} | {0: torch.ones(60)}}
        dcp.load(target, storage_reader=reader, no_dist=True)
        orders.append(list(target["n"]))
    assert orders[0] == orders[1]
