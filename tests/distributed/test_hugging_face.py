"""Safetensors files of many ranks, their consolidation, and loads on another number of ranks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import Replicate, Shard

import shardplan
from shardplan.dcp import fallbacks

from .checkpoints import identical, whole
from .planning import planning
from .state_dicts import StateDict, blank, fsdp, held, leaves, mesh, numbers, spread
from .test_register import NATIVE, UPSTREAM, Seeing
from .world import Worlds

pytest.importorskip("safetensors", reason="the format needs its library")
from parity.test_write_safetensors import parsed, without_the_library

# The planners and the storage classes: upstream's, upstream's under register(), and shardplan's.
WAYS = ("upstream", "registered", "ours")
SAVED_BY = WAYS[:2]  # whose files are loaded
# Folders within that of a save, without consolidation and with it.
FOLDERS = {False: ("",), True: ("", "sharded")}


class UpstreamWriter(Seeing, dcp.HuggingFaceStorageWriter):
    pass


class OurWriter(Seeing, shardplan.HuggingFaceStorageWriter):
    pass


class UpstreamReader(Seeing, dcp.HuggingFaceStorageReader):
    pass


class OurReader(Seeing, shardplan.HuggingFaceStorageReader):
    pass


@dataclasses.dataclass(frozen=True)
class Case:
    """Options of a writer of sharded files; consolidation writes complete ones, too."""

    mapped: bool = False
    consolidated: bool = False
    threads: int = 1


CASES = {
    "sharded": Case(),
    "sharded, mapped": Case(mapped=True, threads=2),
    "consolidated": Case(consolidated=True),
    "consolidated, mapped": Case(mapped=True, consolidated=True, threads=2),
}


def state(case: Case) -> StateDict:
    """Shards of several shapes, and the parameters of FSDP2."""
    row, size = mesh(dist.get_world_size()), dist.get_world_size()
    grid = mesh(size // 2, 2)
    tensors = {
        "rows": spread(numbers(9, 3, seed=1), row, Shard(0)),
        "columns": spread(numbers(3, 6, seed=2, dtype=torch.bfloat16), row, Shard(1)),
        "few rows": spread(numbers(3, 2, seed=3, dtype=torch.float64), row, Shard(0)),
        "integers": spread(numbers(6, seed=9, dtype=torch.int64), row, Shard(0)),
        "cube": spread(numbers(2, 5, 3, seed=4), row, Shard(1)),
        "grid": spread(numbers(5, 7, seed=5), grid, Shard(0), Shard(1)),
        "half replicated": spread(numbers(6, 2, seed=6), grid, Replicate(), Shard(0)),
        "replicated": spread(numbers(4, 2, seed=7), row, Replicate()),
        "plain": numbers(3, 4, seed=8, dtype=torch.float16),
        "scalar": torch.tensor(2.5),
        "fsdp": fsdp()["model"],
    }
    if case.consolidated:
        # Upstream's consolidation raises an error for integers, and writes zeros for a scalar.
        del tensors["integers"], tensors["scalar"]
    return tensors


def mapping(state_dict: StateDict) -> dict[str, int]:
    """Tensors next to each other are in different files, of three."""
    names = [".".join(path) for path, _ in leaves(state_dict)]
    return {name: 1 + at % 3 for at, name in enumerate(names)}


def save(base: Path) -> Any:
    """Returns what ran, the fallbacks, and this rank's data of each case."""
    fallbacks.clear()
    seen, data = {}, {}
    for name, case in CASES.items():
        state_dict = state(case)
        data[name] = held(state_dict)
        for way in WAYS:
            writer = (OurWriter if way == "ours" else UpstreamWriter)(
                str(base / name / way),
                fqn_to_index_mapping=mapping(state_dict) if case.mapped else None,
                thread_count=case.threads,
                save_distributed=True,
                enable_consolidation=case.consolidated,
                thread_count_consolidation=case.threads,
            )
            natively = contextlib.nullcontext() if way == "upstream" else without_the_library()
            with planning(way) as planners, natively:
                dcp.save(state_dict, storage_writer=writer, planner=planners.save())
            seen[name, way] = writer.seen
    return seen, fallbacks.fallbacks(), data


def load(base: Path) -> Any:
    """Returns what ran, the fallbacks, and this rank's data of each load."""
    fallbacks.clear()
    seen, data = {}, {}
    for name, case in CASES.items():
        for folder, by, way in itertools.product(FOLDERS[case.consolidated], SAVED_BY, WAYS):
            reader = (OurReader if way == "ours" else UpstreamReader)(
                str(base / name / by / folder), thread_count=case.threads
            )
            loaded = blank(functools.partial(state, case))
            with planning(way) as planners:
                dcp.load(loaded, storage_reader=reader, planner=planners.load())
            seen[name, folder, by, way] = reader.seen
            data[name, folder, by, way] = held(loaded)
    return seen, fallbacks.fallbacks(), data


def files_of(folder: Path) -> dict[str, Any]:
    """Returns every file's bytes. The library orders a shard's metadata at random: parsed."""
    return {
        str(path.relative_to(folder)): parsed(content) if "shard" in path.name else content
        for path in folder.rglob("*")
        if path.is_file()
        for content in (path.read_bytes(),)
    }


Saved = tuple[Path, list[Any]]


@pytest.fixture(scope="module")
def saved(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    base = tmp_path_factory.mktemp("safetensors")
    return base, worlds[4].run(save, base)


def assert_natively(ranks: list[Any]) -> None:
    for seen, counts, _ in ranks:
        assert not counts
        for (*_, way), module in seen.items():
            assert module == (UPSTREAM if way == "upstream" else NATIVE)


@pytest.mark.parametrize("name", CASES)
def test_same_files(saved: Saved, name: str) -> None:
    base, ranks = saved
    assert_natively(ranks)
    case, expected = CASES[name], files_of(base / name / "upstream")
    for way in WAYS[1:]:
        assert files_of(base / name / way) == expected
    sharded = [file for file in expected if "shard-" in file]
    assert len(sharded) == 4 * (3 if case.mapped else 1)
    complete = sorted(set(expected) - set(sharded))
    assert len(complete) == (case.consolidated and (3 if case.mapped else 1) + 1)


def test_the_same_state_on_half_of_the_ranks(saved: Saved, worlds: Worlds) -> None:
    base, ranks = saved
    expected = {name: whole([data[name] for *_, data in ranks]) for name in CASES}
    halves = worlds[2].run(load, base)
    assert_natively(halves)
    for way in halves[0][2]:
        assert identical(whole([data[way] for *_, data in halves]), expected[way[0]]), way
