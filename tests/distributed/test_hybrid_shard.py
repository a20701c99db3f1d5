"""FSDP1 with HYBRID_SHARD: sharded state dicts of a model and its optimizer.

FSDP1 gives ShardedTensors for a pair of process groups, and DTensors for a mesh. Two ranks hold
each shard, and one of them writes it.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.checkpoint.optimizer import load_sharded_optimizer_state_dict
from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp import ShardingStrategy, StateDictType
from torch.distributed.tensor import DTensor

from shardplan.dcp import fallbacks

from .checkpoints import assert_same_checkpoint, identical, whole
from .planning import planning
from .state_dicts import Block, StateDict, held, leaves, mesh, numbers
from .test_register import NATIVE, UPSTREAM, SeeingReader, SeeingWriter
from .world import Worlds

WAYS = ("upstream", "registered")


class Training:
    """Block's sizes do not divide by two, and each Block is an FSDP unit of its own."""

    def __init__(self, form: str, seed: int) -> None:
        torch.manual_seed(seed)
        on = mesh(2, dist.get_world_size() // 2, names=("replicate", "shard"))
        grouping: dict[str, Any] = {"device_mesh": on}
        if form == "groups":
            grouping = {"process_group": (on.get_group("shard"), on.get_group("replicate"))}
        options = {
            "sharding_strategy": ShardingStrategy.HYBRID_SHARD,
            "use_orig_params": FORMS[form][1],
            "device_id": torch.device("cpu"),
            **grouping,
        }
        layers = [FSDP(Block(), **options), nn.Linear(7, 3)]
        self.model = FSDP(nn.Sequential(*layers), **options)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.model(numbers(5, 7, seed=seed) / 1000).sum().backward()
        self.optimizer.step()

    def state(self) -> StateDict:
        with FSDP.state_dict_type(self.model, StateDictType.SHARDED_STATE_DICT):
            optimizer = FSDP.optim_state_dict(self.model, self.optimizer)
            return {"model": self.model.state_dict(), "optimizer": optimizer}

    def load_model(self, reader: dcp.FileSystemReader) -> None:
        with FSDP.state_dict_type(self.model, StateDictType.SHARDED_STATE_DICT):
            state = {"model": self.model.state_dict()}
            dcp.load(state, storage_reader=reader)
            self.model.load_state_dict(state["model"])

    def load_optimizer(self, reader: dcp.FileSystemReader) -> None:
        found = {"optimizer": self.state()["optimizer"]}
        dcp.load(found, storage_reader=reader)
        with FSDP.state_dict_type(self.model, StateDictType.SHARDED_STATE_DICT):
            set_optimizer_state_dict(self.model, self.optimizer, found["optimizer"])


# The type of the tensors, and use_orig_params, for each way to tell FSDP1 of its ranks.
FORMS = {"groups": (ShardedTensor, False), "mesh": (DTensor, True)}


def save_and_load(form: str, base: Path) -> Any:
    """Returns what ran, this rank's data as saved, and as loaded by each way from each folder."""
    seen, loaded, in_chunks = [], {}, {}
    fallbacks.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FSDP1 and ShardedTensor are deprecated
        state = Training(form, seed=1).state()
        sharded = [path for path, value in leaves(state) if type(value) is FORMS[form][0]]
        assert len(sharded) == 3 * len(state["model"])  # and two moments of AdamW
        for who in WAYS:
            with planning(who):
                writer = SeeingWriter(base / who, sync_files=False)
                dcp.save(state, storage_writer=writer)
            seen.append(writer.seen)
        for way in itertools.product(WAYS, WAYS):
            who, folder = way
            target = Training(form, seed=2)
            readers = [SeeingReader(base / folder) for _ in range(3)]
            with planning(who):
                target.load_model(readers[0])
                target.load_optimizer(readers[1])
                # It lays the tensors out over all ranks, where FSDP1 expects half of them.
                found = load_sharded_optimizer_state_dict(
                    target.state()["model"], "optimizer", readers[2]
                )
            seen += [reader.seen for reader in readers]
            loaded[way], in_chunks[way] = held(target.state()), held(found)
        return seen, fallbacks.fallbacks(), held(state), loaded, in_chunks


@pytest.mark.parametrize("form", FORMS)
def test_same_files_and_the_same_training_state(worlds: Worlds, tmp_path: Path, form: str) -> None:
    ranks = worlds[4].run(save_and_load, form, tmp_path)
    for seen, counts, saved, loaded, _ in ranks:
        assert seen == [UPSTREAM, NATIVE, *[UPSTREAM] * 6, *[NATIVE] * 6]
        assert not counts
        for ways, found in loaded.items():
            assert identical(found, saved), ways
    expected = whole([saved for _, _, saved, _, _ in ranks])
    for ways in itertools.product(WAYS, WAYS):
        found = whole([in_chunks[ways] for *_, in_chunks in ranks])
        assert found
        for path, value in found.items():
            assert identical(value, expected[path]), (ways, path)
        assert len(found) == len([path for path in expected if path[0] == "optimizer"])
    assert_same_checkpoint(tmp_path / "registered", tmp_path / "upstream")
