"""Saves and loads in one process, with real files, failing storage and mixed implementations."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import Shard

from parity.comparison import Raised, assert_same
from parity.implementations import NAMES, UPSTREAM, Implementation, chosen
from parity.unreadable_metadata import words_of_a_load
from parity.worlds import dtensor_of, mesh_of, rank_of, sharded_tensor_of
from pickled import globals_of
from plan_caches import clear_plan_caches

NOT_UPSTREAM = [name for name in NAMES if name != "upstream"]


def state_dict() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    return {
        "model": {
            "weight": torch.randn(5, 3, generator=generator),
            "half": torch.randn(4, generator=generator).half(),
            "scalar": torch.tensor(2.5),
            "nothing": torch.zeros(0, 3),
            "transposed": torch.randn(3, 2, generator=generator).t(),
            "parameter": torch.nn.Parameter(torch.randn(2, generator=generator)),
        },
        "optimizer": {"state": [{"step": torch.tensor(4)}], "lr": 0.1, "betas": (0.9, 0.99)},
        "names": ["a", "b"],
        "step": 7,
    }


def blank(value: Any) -> Any:
    """The same structure with other values."""
    if isinstance(value, dict):
        return {key: blank(each) for key, each in value.items()}
    if isinstance(value, list):
        return [blank(each) for each in value]
    if isinstance(value, torch.Tensor):
        return torch.full_like(value, 9)
    return None


def assert_equal(found: Any, expected: Any) -> None:
    assert type(found) is type(expected) or isinstance(found, torch.Tensor)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, list):
        for a, b in zip(found, expected, strict=True):
            assert_equal(a, b)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


def save(implementation: Implementation, path: Path, entries: Any = None, **options: Any) -> None:
    planner = implementation.DefaultSavePlanner(**options)
    entries = state_dict() if entries is None else entries
    dcp.save(entries, checkpoint_id=path, planner=planner, no_dist=True)


def load(implementation: Implementation, path: Path, entries: Any) -> Any:
    planner = implementation.DefaultLoadPlanner()
    dcp.load(entries, checkpoint_id=path, planner=planner, no_dist=True)
    return entries


def test_round_trip(implementation: Implementation, tmp_path: Path) -> None:
    save(implementation, tmp_path)
    assert_equal(load(implementation, tmp_path, blank(state_dict())), state_dict())


@pytest.mark.parametrize("name", NOT_UPSTREAM)
def test_files_are_upstreams(name: str, tmp_path: Path) -> None:
    """Files have the same names and bytes; metadata differs only in the save's id."""
    save(UPSTREAM, tmp_path / "upstream")
    with chosen(name) as implementation:
        save(implementation, tmp_path / "ours")
    files = sorted(path.name for path in (tmp_path / "upstream").iterdir())
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == files
    for file in files:
        ours, upstream = ((tmp_path / kind / file).read_bytes() for kind in ("ours", "upstream"))
        if file != ".metadata":
            assert ours == upstream, file
            continue
        found, expected = pickle.loads(ours), pickle.loads(upstream)
        found.storage_meta = expected.storage_meta = None
        assert_same(found, expected)
        assert globals_of(ours) == globals_of(upstream)


@pytest.mark.parametrize("name", NOT_UPSTREAM)
def test_either_loads_what_the_other_saved(name: str, tmp_path: Path) -> None:
    save(UPSTREAM, tmp_path / "upstream")
    with chosen(name) as implementation:
        save(implementation, tmp_path / "ours")
        found = load(implementation, tmp_path / "upstream", blank(state_dict()))
        assert_equal(found, state_dict())
    assert_equal(load(UPSTREAM, tmp_path / "ours", blank(state_dict())), state_dict())


STEPS_OF_A_SAVE = [
    "set_up_storage_writer",
    "prepare_local_plan",
    "prepare_global_plan",
    "write_data",
    "finish",
]
STEPS_OF_A_LOAD = [
    "read_metadata",
    "set_up_storage_reader",
    "prepare_local_plan",
    "prepare_global_plan",
    "read_data",
]


class StorageError(Exception):
    """An error of failing storage."""


def failing(storage: Any, step: str) -> Any:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise StorageError(f"{step} failed")

    setattr(storage, step, fail)
    return storage


def raised_by(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Catches an error of DCP, with the error of each rank."""
    with pytest.raises(CheckpointException) as found:
        function(*args, **kwargs)
    failures = {rank: Raised.by(error) for rank, (error, _) in found.value.failures.items()}
    return type(found.value), failures


@pytest.mark.parametrize("step", STEPS_OF_A_SAVE)
def test_failing_storage_of_a_save(
    implementation: Implementation, step: str, tmp_path: Path
) -> None:
    _, failures = raised_by(
        dcp.save,
        state_dict(),
        storage_writer=failing(FileSystemWriter(tmp_path), step),
        planner=implementation.DefaultSavePlanner(),
        no_dist=True,
    )
    assert failures == {0: Raised(StorageError, f"{step} failed", None)}


@pytest.mark.parametrize("step", STEPS_OF_A_LOAD)
def test_failing_storage_of_a_load(
    implementation: Implementation, step: str, tmp_path: Path
) -> None:
    save(implementation, tmp_path)
    _, failures = raised_by(
        dcp.load,
        blank(state_dict()),
        storage_reader=failing(FileSystemReader(tmp_path), step),
        planner=implementation.DefaultLoadPlanner(),
        no_dist=True,
    )
    assert list(failures) == [0]
    # Without global metadata, a load reads the rank's own, and may report that both failed.
    words = f"{step} failed"
    expected = words_of_a_load(words) if step == "read_metadata" else words
    assert expected in failures[0].message


@pytest.mark.parametrize("name", NOT_UPSTREAM)
@pytest.mark.parametrize(
    "change",
    [
        lambda entries: entries["model"].update(weight=torch.zeros(3, 5)),
        lambda entries: entries["model"].update(scalar=torch.zeros(1)),
        lambda entries: entries["model"].update(absent=torch.zeros(1)),
        lambda entries: entries["model"].update(weight=3),
        lambda entries: entries.update(step=torch.zeros(2)),
        lambda entries: entries["model"].pop("weight"),
    ],
    ids=["size", "dims", "missing", "object for tensor", "tensor for object", "fewer"],
)
def test_state_dict_that_does_not_match(change: Any, name: str, tmp_path: Path) -> None:
    save(UPSTREAM, tmp_path)

    def outcome(implementation: Implementation) -> Any:
        entries = blank(state_dict())
        change(entries)
        try:
            load(implementation, tmp_path, entries)
        except CheckpointException as error:
            return {rank: Raised.by(each) for rank, (each, _) in error.failures.items()}
        return "loaded"

    expected = outcome(UPSTREAM)
    with chosen(name) as implementation:
        assert_same(outcome(implementation), expected)


def test_sharded_on_one_rank(implementation: Implementation, tmp_path: Path) -> None:
    """A DTensor and a ShardedTensor in a world of one rank, through files."""
    with rank_of(0, 1):
        dtensor = dtensor_of((5, 2), mesh_of((1,)), [Shard(0)])
        dtensor._local_tensor.copy_(torch.arange(10.0).reshape(5, 2))
        sharded = sharded_tensor_of((6,), [((0,), (2,), 0), ((2,), (4,), 0)])
        for shard in sharded.local_shards():
            shard.tensor.fill_(shard.metadata.shard_offsets[0] + 1)
        save(implementation, tmp_path, {"d": dtensor, "s": sharded})
        loaded = {
            "d": dtensor_of((5, 2), mesh_of((1,)), [Shard(1)]),
            "s": sharded_tensor_of((6,), [((0,), (3,), 0), ((3,), (3,), 0)]),
        }
        load(implementation, tmp_path, loaded)
        assert torch.equal(loaded["d"]._local_tensor, torch.arange(10.0).reshape(5, 2))
        found = torch.cat([shard.tensor for shard in loaded["s"].local_shards()])
    assert found.tolist() == [1, 1, 3, 3, 3, 3]


def test_overwriting_a_checkpoint(implementation: Implementation, tmp_path: Path) -> None:
    save(implementation, tmp_path, {"w": torch.zeros(3)})
    save(implementation, tmp_path, {"w": torch.ones(3)})
    assert load(implementation, tmp_path, {"w": torch.zeros(3)})["w"].tolist() == [1, 1, 1]


def test_plan_caching_over_files(implementation: Implementation, tmp_path: Path) -> None:
    clear_plan_caches()
    for step in range(3):
        entries = {"w": torch.full((3,), float(step)), "step": step}
        save(implementation, tmp_path / str(step), entries, enable_plan_caching=True)
    for step in range(3):
        loaded = load(implementation, tmp_path / str(step), {"w": torch.zeros(3), "step": -1})
        assert (loaded["w"].tolist(), loaded["step"]) == ([step] * 3, step)
    clear_plan_caches()
