"""The soak finds no difference in a sound round, and reports one that is made."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed.world import WorldError, Worlds

from . import disk, jobs
from .models import Request
from .rounds import UPSTREAM, Round, Way

WAYS = (UPSTREAM, Way("ours", "ours"))
ROUND = dataclasses.replace(
    Round.of(3, (2,)),
    save_ways=WAYS,
    load_ways=WAYS,
    kinds="DDP",
    safetensors=False,
    overwrites=False,
    in_background=False,
    request=Request("DP"),
    reader={},
    damage="",
)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    worlds = Worlds(tmp_path_factory.mktemp("stores"))
    yield worlds
    worlds.close()


def flip_a_byte(folder: Path) -> None:
    """Flips a bit in the data of the largest part of a checkpoint."""
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    largest = max(metadata.storage_data.values(), key=lambda info: info.length)
    file = folder / largest.relative_path
    content = bytearray(file.read_bytes())
    content[largest.offset + largest.length // 2] ^= 1
    file.write_bytes(content)


def test_differences_in_files_and_in_loaded_bits(worlds: Worlds, tmp_path: Path) -> None:
    reports = worlds[2].run(jobs.save, ROUND, tmp_path)
    assert [report.saves for report in reports] == [2 * ROUND.times] * 2
    assert reports[0].saved
    disk.compare(ROUND, tmp_path)
    reports = worlds[2].run(jobs.load, ROUND, tmp_path)
    assert [(report.loads, report.errors) for report in reports] == [(4, {})] * 2

    flip_a_byte(tmp_path / "1")
    with pytest.raises(AssertionError, match="planner ours, storage ours"):
        disk.compare(ROUND, tmp_path)
    with pytest.raises(WorldError, match="was not loaded"):
        worlds[2].run(jobs.load, ROUND, tmp_path)


def test_a_seed_decides_the_round() -> None:
    rounds = [Round.of(seed, (1, 2, 3)) for seed in range(300)]
    assert rounds == [Round.of(seed, (1, 2, 3)) for seed in range(300)]
    assert {way.storage for round_ in rounds for way in round_.save_ways} == {
        "upstream",
        "ours",
        "atomic",
        "url",
    }
    assert {round_.damage for round_ in rounds} > {"truncated", "no file", "missing key"}
