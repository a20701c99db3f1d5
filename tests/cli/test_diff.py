"""``shardplan diff`` finds every difference between two checkpoints, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import Shard

from distributed.state_dicts import mesh, numbers, spread
from distributed.world import Worlds

from .commands import json_of, run
from .conftest import state


def save_other(folder: Path, change: str) -> None:
    saved: dict[str, Any] = state()
    model = saved["model"]
    if change == "keys":
        model["extra"] = model.pop("half")
    elif change == "shapes":
        model["half"] = numbers(6, dtype=torch.bfloat16)
    elif change == "dtypes":
        model["half"] = numbers(5, dtype=torch.float16)
    elif change == "kinds":
        model["half"] = "text"
    elif change == "sharding":
        model["grid"] = spread(numbers(8, 6), mesh(4), Shard(0))
    elif change == "values":
        model["half"] = numbers(5, seed=3, dtype=torch.bfloat16)
    dcp.save(saved, storage_writer=dcp.FileSystemWriter(folder))


EXPECTED: list[tuple[str, dict[str, Any]]] = [
    ("values", {}),
    ("keys", {"only_in_a": ["model.half"], "only_in_b": ["model.extra"]}),
    ("shapes", {"shapes": [{"name": "model.half", "a": [5], "b": [6]}]}),
    ("dtypes", {"dtypes": [{"name": "model.half", "a": "bfloat16", "b": "float16"}]}),
    ("sharding", {"sharding": [{"name": "model.grid", "a": "grid 2 x 2", "b": "dim 0 in 4"}]}),
]


@pytest.mark.parametrize(("change", "expected"), EXPECTED, ids=[change for change, _ in EXPECTED])
def test_only_the_change_is_found(
    worlds: Worlds, checkpoint: Path, tmp_path: Path, change: str, expected: dict[str, Any]
) -> None:
    other = tmp_path / "other"
    worlds[4].run(save_other, other, change)
    data = json_of("diff", checkpoint, other, status=1 if expected else 0)
    kinds = ("only_in_a", "only_in_b", "kinds", "shapes", "dtypes", "sharding")
    assert {kind: data[kind] for kind in kinds if data[kind]} == expected
    assert data["same"] == (5 if not expected else 4)
    done = run("diff", checkpoint, other)
    assert done.status == (1 if expected else 0)
    assert ("no difference" in done.out) == (not expected)


SENTENCES = [
    ("keys", ["1 entry is only in {a}:", "1 entry is only in {b}:"]),
    ("shapes", ["1 entry differs in shape:"]),
    ("dtypes", ["1 entry differs in dtype:"]),
    ("kinds", ["1 entry differs in kind:"]),
    ("sharding", ["1 tensor is sharded differently:"]),
]


@pytest.mark.parametrize(("change", "message"), SENTENCES, ids=[change for change, _ in SENTENCES])
def test_differences_are_sentences(
    worlds: Worlds, checkpoint: Path, tmp_path: Path, change: str, message: list[str]
) -> None:
    other = tmp_path / "other"
    worlds[4].run(save_other, other, change)
    lines = run("diff", checkpoint, other).out.splitlines()
    for line in message:
        assert line.format(a=checkpoint, b=other) in lines
    assert lines[-1] == "the checkpoints differ; 4 entries are the same"


def test_an_object_for_a_tensor(worlds: Worlds, checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    worlds[4].run(save_other, other, "kinds")
    data = json_of("diff", checkpoint, other, status=1)
    assert data["kinds"] == [{"name": "model.half", "a": "tensor", "b": "object"}]


def test_a_missing_checkpoint_has_status_2(checkpoint: Path, tmp_path: Path) -> None:
    assert run("diff", checkpoint, tmp_path / "absent").status == 2
