"""Checkpoints of state dicts on two GPUs: files, loads and reshards, shardplan against upstream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distributed.checkpoints import (
    Held,
    assert_same_checkpoint,
    identical,
    load_as,
    save_as,
    whole,
    without_ids,
)
from distributed.planning import ALL, OURS
from distributed.state_dicts import BUILDERS
from distributed.world import World, Worlds
from shardplan.dcp import fallbacks

from .conftest import BACKENDS

Gpus = Callable[[str], World]

# The state dict that two GPUs save, and the one that is loaded.
MOVES = [
    ("fsdp", "fsdp_tp"),
    ("fsdp", "hsdp"),
    ("fsdp_tp", "fsdp"),
    ("hsdp", "fsdp_tp"),
    ("uneven", "uneven"),
    ("nested", "nested"),
]


def save_counted(layout: str, folders: dict[str, Path]) -> Any:
    """Returns this rank's data, and what handed work to upstream's code in each implementation."""
    returned, counts, data = [], {}, {}
    for who, folder in folders.items():
        fallbacks.clear()
        data, metadata = save_as(layout, {who: folder})
        returned += [without_ids(each) for each in metadata]
        counts[who] = fallbacks.fallbacks()
    return data, returned, counts


def load_counted(layout: str, folders: list[Path], who: str) -> Any:
    fallbacks.clear()
    return load_as(layout, folders, who), fallbacks.fallbacks()


Saved = tuple[dict[str, Path], list[Held]]


@pytest.fixture(scope="module")
def saved(gpus: Gpus, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Saved]:
    """The folder of each implementation, and each rank's data."""
    done: dict[tuple[str, str], Saved] = {}

    def save(backend: str, layout: str) -> Saved:
        if (backend, layout) not in done:
            base = tmp_path_factory.mktemp(layout)
            folders = {who: base / who for who in ALL}
            ranks = gpus(backend).run(save_counted, layout, folders)
            for _, returned, counts in ranks:
                assert all(metadata == returned[0] for metadata in returned)
                assert not any(counts.values()), counts
            done[backend, layout] = folders, [data for data, _, _ in ranks]
        return done[backend, layout]

    return save


@pytest.mark.parametrize("layout", BUILDERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_same_files(saved: Callable[[str, str], Saved], backend: str, layout: str) -> None:
    folders, _ = saved(backend, layout)
    for who in OURS:
        assert_same_checkpoint(folders[who], folders["upstream"])


@pytest.mark.parametrize("layout", BUILDERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_bit_of_both_checkpoints_is_loaded(
    gpus: Gpus, saved: Callable[[str, str], Saved], backend: str, layout: str
) -> None:
    folders, before = saved(backend, layout)
    for who in ALL:
        found = gpus(backend).run(load_counted, layout, [folders["upstream"], folders["ours"]], who)
        for rank, (loaded, counts) in enumerate(found):
            assert not counts, who
            for each in loaded:
                assert identical(each, before[rank]), who


@pytest.mark.parametrize("who", ALL)
@pytest.mark.parametrize(("layout", "loaded_as"), MOVES)
def test_another_mesh(
    gpus: Gpus, saved: Callable[[str, str], Saved], layout: str, loaded_as: str, who: str
) -> None:
    folders, before = saved("nccl", layout)
    both = [folders["upstream"], folders["ours"]]
    ranks = gpus("nccl").run(load_as, loaded_as, both, who)
    assert_loaded([whole([rank[i] for rank in ranks]) for i in range(2)], whole(before))


@pytest.mark.parametrize("who", ALL)
@pytest.mark.parametrize("size", [1, 3])
def test_a_checkpoint_of_gpus_is_loaded_without_gpus(
    worlds: Worlds, saved: Callable[[str, str], Saved], size: int, who: str
) -> None:
    folders, before = saved("nccl", "fsdp")
    both = [folders["upstream"], folders["ours"]]
    ranks = worlds[size].run(load_as, "fsdp", both, who)
    assert_loaded([whole([rank[i] for rank in ranks]) for i in range(2)], whole(before))


@pytest.mark.parametrize("who", ALL)
def test_a_checkpoint_of_processes_without_gpus_is_loaded_on_gpus(
    gpus: Gpus, worlds: Worlds, tmp_path: Path, who: str
) -> None:
    folders = {each: tmp_path / each for each in ("upstream", "ours")}
    before = whole([data for data, _ in worlds[3].run(save_as, "fsdp", folders)])
    ranks = gpus("nccl").run(load_as, "fsdp_tp", list(folders.values()), who)
    assert_loaded([whole([rank[i] for rank in ranks]) for i in range(2)], before)


def assert_loaded(checkpoints: list[Held], before: Held) -> None:
    for after in checkpoints:
        assert set(after) == set(before)
        for path, value in after.items():
            expected = before[path]
            if isinstance(value, list):  # An object is the same in each process.
                assert all(identical(each, expected[0]) for each in value), path
            else:
                assert identical(value, expected), path
