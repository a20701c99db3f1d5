"""The ways in which callers save and load: register() changes neither files nor loaded states."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed._shard import sharded_tensor
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharding_spec import ChunkShardingSpec, EnumerableShardingSpec
from torch.distributed.checkpoint import format_utils, state_dict_loader
from torch.distributed.checkpoint._extension import ExtensionRegistry
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.tensor import Shard
from torch.nn.parallel import DistributedDataParallel

from parity.extensions import Inverted

from .checkpoints import assert_same_checkpoint, identical, writer
from .planning import planning
from .state_dicts import StateDict, blank, held, mesh, numbers, spread
from .world import Worlds


def sharded() -> StateDict:
    return {"w": spread(numbers(7, 2), mesh(2), Shard(0)), "same": numbers(3), "n": 3}


def whole() -> StateDict:
    return {"w": numbers(7, 2), "same": numbers(3)}


def in_another_order() -> StateDict:
    entries = list(sharded().items())
    return dict(entries if dist.get_rank() == 0 else reversed(entries))


def of_a_pipeline() -> StateDict:
    """Each rank has its own layers, and one that all have."""
    rank = dist.get_rank()
    return {f"stage.{rank}.w": numbers(4, seed=rank), "tied": numbers(2), f"n.{rank}": rank}


def of_ddp() -> StateDict:
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Linear(3, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    models, optimizers = get_state_dict(model, optimizer)
    return {"model": models, "optimizer": optimizers}


def of_a_compiled_model() -> StateDict:
    torch.manual_seed(0)
    return {"model": dict(torch.compile(nn.Linear(3, 2)).state_dict())}


def of_specs() -> StateDict:
    """ShardedTensors that upstream lays out by a specification."""
    ranks = [f"rank:{rank}/cpu" for rank in range(2)]
    boxes = [([0, 0], [2, 3]), ([2, 0], [3, 3])]
    by_box = EnumerableShardingSpec(
        [ShardMetadata(*box, placement=ranks[n]) for n, box in enumerate(boxes)]
    )  # type: ignore[arg-type]
    state = {
        "chunks": sharded_tensor.zeros(ChunkShardingSpec(0, ranks), 5, 3),  # type: ignore[arg-type]
        "other dim": sharded_tensor.zeros(ChunkShardingSpec(1, ranks[::-1]), 4, 3),  # type: ignore[arg-type]
        "boxes": sharded_tensor.zeros(by_box, 5, 3),
    }
    for tensor in state.values():
        for number, shard in enumerate(tensor.local_shards()):
            shard.tensor.copy_(numbers(*shard.tensor.shape, seed=number + dist.get_rank()))
    return state


class Counter(Stateful):
    def __init__(self, value: float) -> None:
        self.values = {"w": torch.full((3,), value), "steps": [value]}

    def state_dict(self) -> StateDict:
        return self.values

    def load_state_dict(self, state_dict: StateDict) -> None:
        self.values = dict(state_dict)


@dataclasses.dataclass
class Way:
    """A way to save and to load.

    Attributes:
        build: makes the state dict.
        save: saves it in a folder.
        load: loads it from a folder, in place; or returns what it has loaded.
    """

    build: Callable[[], StateDict] = sharded
    save: Callable[[StateDict, Path], Any] = lambda state, path: dcp.save(
        state, storage_writer=writer(path)
    )
    load: Callable[[StateDict, Path], Any] = lambda state, path: dcp.load(state, checkpoint_id=path)


def load_stateful(state: StateDict, path: Path) -> StateDict:
    counter = Counter(0)
    dcp.load({"counter": counter}, checkpoint_id=path)
    return counter.values


def save_inverted(state: StateDict, path: Path) -> None:
    dcp.save(state, storage_writer=writer(path, _extensions=[Inverted()]))


def load_inverted(state: StateDict, path: Path) -> None:
    registry = ExtensionRegistry()
    registry.register(Inverted)
    dcp.load(state, storage_reader=dcp.FileSystemReader(path, _extension_registry=registry))


@contextlib.contextmanager
def any_checkpoint_id() -> Iterator[None]:
    with (
        mock.patch.object(dcp.FileSystemWriter, "validate_checkpoint_id", lambda id: True),
        mock.patch.object(dcp.FileSystemReader, "validate_checkpoint_id", lambda id: True),
    ):
        yield


def patched(function: Callable[[StateDict, Path], Any]) -> Callable[[StateDict, Path], Any]:
    def call(state: StateDict, path: Path) -> Any:
        with any_checkpoint_id():
            return function(state, path)

    return call


def load_torch_save(state: StateDict, path: Path) -> None:
    """Rank 0 reads a file of ``torch.save`` and broadcasts it."""
    if dist.get_rank() == 0:
        torch.save(whole(), path / "plain.pt")
    dist.barrier()
    dcp.load(
        state,
        storage_reader=format_utils.BroadcastingTorchSaveReader(),
        planner=format_utils.DynamicMetaLoadPlanner(),
        checkpoint_id=path / "plain.pt",
    )


def from_keys(*keys: str) -> Callable[[StateDict, Path], Any]:
    return lambda state, path: state_dict_loader._load_state_dict_from_keys(
        set(keys) or None, checkpoint_id=path
    )


WAYS = {
    "save_state_dict": Way(
        save=lambda state, path: dcp.save_state_dict(state, writer(path)),
        load=lambda state, path: dcp.load_state_dict(state, dcp.FileSystemReader(path)),
    ),
    "coordinator 1": Way(
        save=lambda state, path: dcp.save_state_dict(state, writer(path), coordinator_rank=1),
        load=lambda state, path: dcp.load_state_dict(
            state, dcp.FileSystemReader(path), coordinator_rank=1
        ),
    ),
    "a group of its own": Way(
        save=lambda state, path: dcp.save(
            state, storage_writer=writer(path), process_group=dist.new_group()
        ),
        load=lambda state, path: dcp.load(
            state, checkpoint_id=path, process_group=dist.new_group()
        ),
    ),
    "keys in another order": Way(in_another_order),
    "a pipeline": Way(of_a_pipeline),
    "DDP": Way(of_ddp),
    "torch.compile": Way(of_a_compiled_model),
    "specifications": Way(of_specs),
    "Stateful": Way(lambda: {"counter": Counter(7)}, load=load_stateful),
    "extensions": Way(save=save_inverted, load=load_inverted),
    "any checkpoint id": Way(
        save=patched(lambda state, path: dcp.save(state, checkpoint_id=path)),
        load=patched(lambda state, path: dcp.load(state, checkpoint_id=path)),
    ),
    "a file of torch.save": Way(whole, load=load_torch_save),
    "all keys": Way(of_a_compiled_model, load=from_keys()),
    "some keys": Way(of_a_compiled_model, load=from_keys("model._orig_mod.bias")),
}


def save_and_load(name: str, folder: Path) -> list[Any]:
    """Returns what this rank has loaded, with upstream and after register()."""
    way, loaded = WAYS[name], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # several of these are deprecated
        for who in ("upstream", "registered"):
            with planning(who):
                way.save(way.build(), folder / who)
                state = {} if name == "Stateful" else blank(way.build)
                answer = way.load(state, folder / who)
                loaded.append(held(answer if isinstance(answer, dict) else state))
    return loaded


@pytest.mark.parametrize("name", WAYS)
def test_same_files_and_the_same_state(worlds: Worlds, tmp_path: Path, name: str) -> None:
    for upstream, ours in worlds[2].run(save_and_load, name, tmp_path):
        assert upstream
        assert identical(ours, upstream)
    for who in ("upstream", "registered"):
        (tmp_path / who / "plain.pt").unlink(missing_ok=True)
    assert_same_checkpoint(tmp_path / "registered", tmp_path / "upstream")
