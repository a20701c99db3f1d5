"""A planning error on one rank must reach every rank, in seconds, with upstream's message."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata
from torch.distributed.tensor import DTensor, Partial, Shard

from parity.verdicts import words_of_error

from .checkpoints import identical, writer
from .planning import ALL, described, planning
from .state_dicts import StateDict, blank, held, mesh, numbers, spread, sub_mesh
from .world import Worlds


def state() -> StateDict:
    return {"w": spread(numbers(7, 2), mesh(3), Shard(0)), "same": numbers(3), "n": 3}


class RaisingObject:
    """An object that raises when it creates its write items."""

    def __create_write_items__(self, fqn: str, value: object) -> list[Any]:
        raise LookupError(f"no items of {fqn}")


def raising_object(rank: int) -> StateDict:
    return {**state(), "refusing": RaisingObject() if rank == 1 else 3}


def partial_placement(rank: int) -> StateDict:
    partial = DTensor.from_local(torch.ones(2), mesh(3), [Partial()], run_check=False)
    return {**state(), "partial": partial}


def overlap(rank: int) -> StateDict:
    thirds = spread(numbers(6), mesh(3), Shard(0))
    halves = spread(numbers(6), sub_mesh(0, 1), Shard(0))
    return {**state(), "torn": halves if rank == 1 else thirds}


def shard_here_whole_there(rank: int) -> StateDict:
    shard = spread(numbers(6), mesh(3), Shard(0))
    return {**state(), "both": numbers(6) if rank == 2 else shard}


def hole(rank: int) -> StateDict:
    shard = {"thirds": spread(numbers(6), mesh(3), Shard(0))}
    return {**state(), **({} if rank == 1 else shard)}


def tensor_here_object_there(rank: int) -> StateDict:
    return {**state(), "either": numbers(2) if rank == 2 else "text"}


def cycle(rank: int) -> StateDict:
    looped: StateDict = {"w": numbers(2)}
    if rank == 1:
        looped["again"] = looped
    return {**state(), "looped": looped}


class Unpicklable:
    def __reduce__(self) -> str:
        raise TypeError("not to be pickled")


def unpicklable_object(rank: int) -> StateDict:
    return {**state(), "object": Unpicklable()}


def missing_key(rank: int) -> StateDict:
    return {**state(), **({"extra": numbers(2)} if rank == 2 else {})}


def size_mismatch(rank: int) -> StateDict:
    return {**state(), "same": numbers(4 if rank == 1 else 3)}


def sharded_size_mismatch(rank: int) -> StateDict:
    return {**state(), "w": spread(numbers(8, 2), mesh(3), Shard(0))}


def object_for_a_tensor(rank: int) -> StateDict:
    return {**state(), "same": "text" if rank == 1 else numbers(3)}


# Each has a part of upstream's message, so that the test fails for any other error.
SAVES = (
    (raising_object, "no items of refusing"),
    (partial_placement, "not supported for DTensor with partial placements"),
    (overlap, words_of_error("has overlapping chunks")),
    (shard_here_whole_there, "item.index.fqn not in md"),
    (hole, words_of_error("invalid fill tensor-volume: 6 chunks-volume: 4")),
    (tensor_here_object_there, "item.index.fqn not in md"),
    (cycle, "maximum recursion depth exceeded"),
    (unpicklable_object, "not to be pickled"),
)
LOADS = (
    (missing_key, "Missing key in checkpoint state_dict: extra."),
    (size_mismatch, "Size mismatch between saved torch.Size([3])"),
    (sharded_size_mismatch, "Size mismatch between saved torch.Size([7, 2])"),
    (object_for_a_tensor, "Invalid checkpoint metadata for same"),
    (partial_placement, "Missing key"),
    (cycle, "maximum recursion depth exceeded"),
)


def dims_differ(metadata: Any) -> None:
    metadata.state_dict_metadata["w"].chunks[0] = chunk([0], [2])


def chunk_is_none(metadata: Any) -> None:
    metadata.state_dict_metadata["w"].chunks[0] = None


def beyond_int64(metadata: Any) -> None:
    metadata.state_dict_metadata["w"].chunks[1].offsets = (2**70, 0)


def negative(metadata: Any) -> None:
    metadata.state_dict_metadata["w"].chunks[1] = chunk([-1, 0], [4, 2])


def no_metadata_at_all(metadata: Any) -> None:
    metadata.state_dict_metadata["w"] = "wrong"


def no_dict(metadata: Any) -> None:
    metadata.state_dict_metadata = None


def object_instead(metadata: Any) -> None:
    metadata.state_dict_metadata["w"] = metadata.state_dict_metadata["n"]


def no_chunks(metadata: Any) -> None:
    metadata.state_dict_metadata["w"].chunks = None


def chunk(offsets: list[int], sizes: list[int]) -> ChunkStorageMetadata:
    return ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))


BREAKS: tuple[Callable[[Any], None], ...] = (
    dims_differ,
    chunk_is_none,
    beyond_int64,
    negative,
    no_metadata_at_all,
    no_dict,
    object_instead,
    no_chunks,
)


def outcome(action: Callable[[], object], state: StateDict) -> Any:
    """Returns the exception of an action; without one, the contents of the state dict after it."""
    try:
        action()
    except BaseException as error:
        return described(error)
    return held(state)


def save_each(make: Callable[[int], StateDict], base: Path) -> dict[str, Any]:
    outcomes = {}
    for who in ALL:
        with planning(who) as planners:
            wrong, planner = make(dist.get_rank()), planners.save()

            def save(wrong: StateDict = wrong, planner: Any = planner, who: str = who) -> None:
                dcp.save(wrong, storage_writer=writer(base / who), planner=planner)

            outcomes[who] = outcome(save, {})
            dcp.save(state(), storage_writer=writer(base / f"{who} after"), planner=planners.save())
    return outcomes


def load_each(make: Callable[[int], StateDict], folder: Path) -> dict[str, Any]:
    outcomes = {}
    for who in ALL:
        with planning(who) as planners:
            wrong, planner = make(dist.get_rank()), planners.load()

            def load(wrong: StateDict = wrong, planner: Any = planner) -> None:
                dcp.load(wrong, checkpoint_id=folder, planner=planner)

            outcomes[who] = outcome(load, wrong)
    return outcomes


def good(rank: int) -> StateDict:
    return blank(state)


def save_good(folder: Path) -> None:
    dcp.save(state(), storage_writer=writer(folder))


def assert_alike(results: list[dict[str, Any]]) -> None:
    for result in results:
        for who in ALL:
            assert identical(result[who], result["upstream"]), (
                who,
                result[who],
                result["upstream"],
            )


def assert_all_raise(results: list[dict[str, Any]], words: str) -> None:
    """Asserts that every rank has the same exception, with this message, for all planners."""
    for result in results:
        assert result["upstream"][0] == "CheckpointException"
        assert words in str(result["upstream"])
        assert result["upstream"] == results[0]["upstream"]
    assert_alike(results)


@pytest.fixture(scope="module")
def checkpoint(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    worlds[3].run(save_good, folder)
    return folder


@pytest.mark.parametrize(("make", "words"), SAVES)
def test_saving(
    worlds: Worlds, tmp_path: Path, make: Callable[[int], StateDict], words: str
) -> None:
    assert_all_raise(worlds[3].run(save_each, make, tmp_path, timeout=30), words)


@pytest.mark.parametrize(("make", "words"), LOADS)
def test_loading(
    worlds: Worlds, checkpoint: Path, make: Callable[[int], StateDict], words: str
) -> None:
    assert_all_raise(worlds[3].run(load_each, make, checkpoint, timeout=30), words)


@pytest.mark.parametrize("break_it", BREAKS)
def test_loading_broken_metadata(
    worlds: Worlds, checkpoint: Path, tmp_path: Path, break_it: Callable[[Any], None]
) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    metadata = pickle.loads((checkpoint / ".metadata").read_bytes())
    break_it(metadata)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(metadata))
    # Upstream loads some of these, and not always the same on each rank.
    assert_alike(worlds[3].run(load_each, good, tmp_path, timeout=30))


def raise_in_hook(kind: str, hook: str, at: int, folder: Path) -> dict[str, Any]:
    """Runs a subclass whose hook raises on one rank, and then a planner that works."""
    raised = {}
    for who in ALL:
        with planning(who) as planners:
            base: Any = getattr(planners, kind)

            def fail(self: Any, *args: Any, base: Any = base) -> Any:
                if dist.get_rank() == at:
                    raise KeyError(f"{hook} on {at}")
                return getattr(base, hook)(self, *args)

            planner = type("Raising", (base,), {hook: fail})()

            def use(planner: Any = planner, who: str = who) -> None:
                if kind == "save":
                    dcp.save(state(), storage_writer=writer(folder / who), planner=planner)
                else:
                    dcp.load(state(), checkpoint_id=folder, planner=planner)

            raised[who] = outcome(use, {})
            dcp.save(state(), storage_writer=writer(folder / who), planner=planners.save())
    return raised


EACH_RANK = (0, 1, 2)
COORDINATOR = (0,)


@pytest.mark.parametrize(
    ("kind", "hook", "at"),
    [
        (kind, hook, at)
        for kind, hook, ranks in (
            ("save", "create_local_plan", EACH_RANK),
            ("save", "create_global_plan", COORDINATOR),
            ("save", "finish_plan", EACH_RANK),
            ("save", "resolve_data", EACH_RANK),
            ("load", "create_local_plan", EACH_RANK),
            ("load", "create_global_plan", COORDINATOR),
            ("load", "finish_plan", EACH_RANK),
            ("load", "commit_tensor", EACH_RANK),
        )
        for at in ranks
    ],
)
def test_a_hook_that_raises(worlds: Worlds, tmp_path: Path, kind: str, hook: str, at: int) -> None:
    if kind == "load":
        worlds[3].run(save_good, tmp_path)
    raised = worlds[3].run(raise_in_hook, kind, hook, at, tmp_path, timeout=30)
    assert_all_raise(raised, f"{hook} on {at}")


def reports_of(make: Callable[[int], StateDict], base: Path) -> list[Any]:
    """Every rank's report of shardplan's planner, and of upstream's under ``register()``."""
    reports = []
    for who in ("ours", "registered", "ours on even ranks"):
        with planning(who) as planners, pytest.raises(dcp.api.CheckpointException) as caught:
            dcp.save(
                make(dist.get_rank()), storage_writer=writer(base / who), planner=planners.save()
            )
        ((error, _),) = caught.value.failures.values()
        reports.append(error.report)  # type: ignore[attr-defined]
    return reports


def test_report_reaches_every_rank(worlds: Worlds, tmp_path: Path) -> None:
    of_ranks = worlds[3].run(reports_of, hole, tmp_path)
    assert all(reports == of_ranks[0] for reports in of_ranks)
    assert len(of_ranks[0]) == 3
    for report in of_ranks[0]:
        (tensor,) = report["tensors"]
        assert tensor["name"] == "thirds"
        assert tensor["hole"]["boxes"] == [{"offsets": [2], "sizes": [2]}]
        assert "rank 1 of 3 has no part of it" in tensor["cause"]
