"""Tensors with the fields of CheckpointableTensor (torch 2.14): shards of a global tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

import shardplan
from parity import travel
from parity.boxes import chunk, row_chunks, tensor_metadata
from parity.comparison import assert_same_answer
from parity.implementations import OURS
from shardplan.dcp.upstream import originals, versions

pytestmark = pytest.mark.skipif(
    versions.get_checkpointable_tensor_write_items is None,
    reason="this torch has no CheckpointableTensor",
)

Maker = Callable[[], torch.Tensor]


def shards(local: torch.Tensor, **fields: Any) -> torch.Tensor:
    for name, value in fields.items():
        setattr(local, name, value)
    return local


def one_shard(cls: type = torch.Tensor) -> torch.Tensor:
    local = torch.arange(8.0).view(2, 4)
    local = torch.nn.Parameter(local) if cls is torch.nn.Parameter else local.as_subclass(cls)
    return shards(
        local,
        global_shape=(6, 4),
        global_offsets=((2, 0),),
        local_offsets=((0, 0),),
        local_sizes=((2, 4),),
    )


class Sub(torch.Tensor):
    pass


def two_shards_with_padding() -> torch.Tensor:
    return shards(
        torch.arange(24.0).view(6, 4),
        global_shape=(6, 4),
        global_offsets=((0, 0), (4, 0)),
        local_offsets=((1, 0), (3, 0)),
        local_sizes=((2, 4), (2, 4)),
    )


def whole() -> torch.Tensor:
    return shards(
        torch.arange(24.0).view(6, 4),
        global_shape=(6, 4),
        global_offsets=((0, 0),),
        local_offsets=((0, 0),),
        local_sizes=((6, 4),),
    )


def scalar() -> torch.Tensor:
    return shards(
        torch.tensor(3.0),
        global_shape=(),
        global_offsets=((),),
        local_offsets=((),),
        local_sizes=((),),
    )


def no_shards() -> torch.Tensor:
    return shards(
        torch.empty(0, 4), global_shape=(6, 4), global_offsets=(), local_offsets=(), local_sizes=()
    )


def outside() -> torch.Tensor:
    return shards(one_shard(), global_offsets=((5, 0),))


def uneven() -> torch.Tensor:
    return shards(one_shard(), local_sizes=())


def incomplete() -> torch.Tensor:
    tensor = one_shard()
    del tensor.local_sizes
    return tensor


VALID: dict[str, Maker] = {
    "one": one_shard,
    "parameter": lambda: one_shard(torch.nn.Parameter),
    "subclass": lambda: one_shard(Sub),
    "two": two_shards_with_padding,
    "whole": whole,
    "none": no_shards,
}
ALL = {**VALID, "scalar": scalar, "outside": outside, "uneven": uneven, "incomplete": incomplete}


@pytest.mark.parametrize("name", ALL)
def test_plans(name: str) -> None:
    state_dict = {"before": torch.zeros(2), "it": ALL[name](), "after": torch.zeros(2)}
    assert_same_answer(
        OURS.default_planner.create_default_local_save_plan,
        originals.create_default_local_save_plan,
        state_dict,
        True,
    )
    two = tensor_metadata((2,), row_chunks(2, 1))
    for saved in (
        tensor_metadata((6, 4), row_chunks(6, 3, 4)),
        tensor_metadata((2, 4), row_chunks(2, 1, 4)),
        tensor_metadata((), [chunk((), ())]),
        BytesStorageMetadata(),
    ):
        assert_same_answer(
            OURS.default_planner.create_default_local_load_plan,
            originals.create_default_local_load_plan,
            state_dict,
            Metadata({"before": two, "it": saved, "after": two}),
        )


@pytest.mark.parametrize("name", ["one", "parameter", "whole"])
def test_one_shard_is_native(name: str, tmp_path: Path) -> None:
    state_dict = {"before": 1, "it": ALL[name](), "plain": torch.zeros(2), "after": "text"}
    before = shardplan.fallbacks()
    dcp.save(
        state_dict,
        storage_writer=shardplan.FileSystemWriter(tmp_path),
        planner=shardplan.DefaultSavePlanner(),
        no_dist=True,
    )
    dcp.load(
        state_dict,
        storage_reader=shardplan.FileSystemReader(tmp_path),
        planner=shardplan.DefaultLoadPlanner(),
        no_dist=True,
    )
    assert shardplan.fallbacks() == before


def test_several_shards_are_upstreams_items() -> None:
    before = Counter(shardplan.fallbacks())
    OURS.default_planner.create_default_local_save_plan({"it": two_shards_with_padding()}, True)
    assert Counter(shardplan.fallbacks()) - before == {
        "local save plan: an entry is a torch.Tensor": 1
    }


def test_global_plans() -> None:
    """Two ranks have one shard each of one tensor, and both have another."""

    def plans(create: Callable[..., Any]) -> list[Any]:
        found = []
        for first in (0, 2):
            mine = shards(one_shard(), global_offsets=((first, 0),), global_shape=(4, 4))
            state_dict = {"bytes": [1], "mine": mine, "both": one_shard(), "last": 2}
            found.append(create(state_dict, first == 0))
        return found

    ours = plans(OURS.default_planner.create_default_local_save_plan)
    theirs = plans(originals.create_default_local_save_plan)
    for received in (ours, travel.sent(ours), travel.sent_upstream(ours)):
        got = OURS.default_planner.create_default_global_save_plan(
            OURS.default_planner.dedup_save_plans(received)
        )
        expected = originals.create_default_global_save_plan(originals.dedup_save_plans(theirs))
        assert got == expected
        assert got[1].state_dict_metadata["mine"].size == torch.Size((4, 4))
        assert [item.index.index for item in got[0][1].items] == [1, 0]


@pytest.mark.parametrize("name", ALL)
def test_functions(name: str) -> None:
    tensor = ALL[name]()
    saved = tensor_metadata((6, 4), row_chunks(6, 3, 4))
    helpers = OURS.planner_helpers
    assert_same_answer(helpers._create_write_items, originals.create_write_items, "it", tensor)
    assert_same_answer(helpers._create_chunk_list, originals.create_chunk_list, tensor)
    assert_same_answer(helpers._create_read_items, originals.create_read_items, "it", saved, tensor)


def save(path: Path, state_dict: Any, writer: Any, planner: Any) -> tuple[Any, dict[str, bytes]]:
    metadata = dcp.save(state_dict, storage_writer=writer(path), planner=planner(), no_dist=True)
    return metadata.state_dict_metadata, {
        file.name: file.read_bytes() for file in path.iterdir() if file.suffix == ".distcp"
    }


@pytest.mark.parametrize("name", [*VALID, "scalar"])
def test_saves_and_loads(name: str, tmp_path: Path) -> None:
    def state_dict() -> dict[str, Any]:
        return {"it": ALL[name](), "plain": torch.arange(3)}

    def saved(directory: str, writer: Any, planner: Any) -> Any:
        try:
            return save(tmp_path / directory, state_dict(), writer, planner)
        except Exception as error:
            return type(error), str(error)

    ours = saved("ours", shardplan.FileSystemWriter, shardplan.DefaultSavePlanner)
    theirs = saved("theirs", dcp.FileSystemWriter, dcp.DefaultSavePlanner)
    if isinstance(theirs[0], dict):
        assert ours == theirs
    else:
        assert ours[0] == theirs[0]
        assert ours[1].startswith(theirs[1])

    full = torch.arange(100.0, 124.0).view(6, 4)
    if name == "scalar":
        full = torch.tensor(7.0)
    source = tmp_path / "full"
    dcp.save({"it": full, "plain": torch.arange(3)}, checkpoint_id=source, no_dist=True)
    loaded = []
    for reader, load_planner in (
        (shardplan.FileSystemReader, shardplan.DefaultLoadPlanner),
        (dcp.FileSystemReader, dcp.DefaultLoadPlanner),
    ):
        target = state_dict()
        target["it"].requires_grad_(False).zero_()
        dcp.load(target, storage_reader=reader(source), planner=load_planner(), no_dist=True)
        loaded.append(target)
    assert torch.equal(loaded[0]["it"], loaded[1]["it"])
    assert name == "none" or loaded[0]["it"].any()


def test_a_report_compares_global_sizes() -> None:
    state_dict = {"it": one_shard(), "missing": torch.zeros(2)}
    metadata = Metadata({"it": tensor_metadata((6, 4), row_chunks(6, 3, 4))})
    planner = shardplan.DefaultLoadPlanner()
    planner.set_up_planner(state_dict, metadata, True)
    with pytest.raises(RuntimeError, match="Missing key") as caught:
        planner.create_local_plan()
    assert "saved with another size" not in str(caught.value)


@pytest.mark.parametrize("check", ["check_dtype", "check_coverage"])
def test_checks_before_a_load(check: str) -> None:
    planner = shardplan.DefaultLoadPlanner(**{check: True})
    metadata = Metadata({"it": tensor_metadata((6, 4), row_chunks(6, 3, 4))})
    planner.set_up_planner({"it": one_shard()}, metadata, True)
    planner.create_local_plan()
