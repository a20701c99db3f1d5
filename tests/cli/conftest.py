"""Checkpoints that upstream DCP saved from real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import Shard

from distributed.conftest import worlds as worlds
from distributed.state_dicts import mesh, numbers, spread
from distributed.world import Worlds


def state() -> dict[str, Any]:
    return {
        "model": {
            "grid": spread(numbers(8, 6), mesh(2, 2), Shard(0), Shard(1)),
            "rows": spread(numbers(7, 3), mesh(4), Shard(0)),
            "half": numbers(5, dtype=torch.bfloat16),
            "scalar": torch.tensor(2.0),
        },
        "step": 7,
    }


def save(folder: Path, **options: Any) -> None:
    dcp.save(state(), storage_writer=dcp.FileSystemWriter(folder, **options))


def save_alone(folder: Path) -> None:
    dcp.save(state(), checkpoint_id=folder, use_collectives=False)


@pytest.fixture(scope="session")
def checkpoint(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of four ranks: a grid, uneven shards, a replicated tensor, a scalar, a list."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    worlds[4].run(save, folder)
    return folder


@pytest.fixture(scope="session")
def of_each_rank(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that was saved without collectives, with one metadata file for each rank."""
    folder = tmp_path_factory.mktemp("saved") / "of_each_rank"
    worlds[4].run(save_alone, folder)
    return folder
