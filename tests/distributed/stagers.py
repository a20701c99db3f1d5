"""Saves by ``async_save`` with a stager of the caller, in a thread or a process of each rank.

Saves start to plan only when the state has changed after its staging. The process gets its process
group from a store that a launcher has started (DCP_USE_PREFIX_STORE); that of test_async_save.py
starts a store itself.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed._state_dict_utils import _create_cpu_state_dict
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.staging import (
    AsyncStager,
    BlockingAsyncStager,
    DefaultStager,
    StagingOptions,
)
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType, AsyncSaveResponse
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import Shard

from shardplan.dcp import fallbacks

from .checkpoints import Held, assert_same_checkpoint, identical
from .planning import planning
from .state_dicts import StateDict, blank, held, leaves, mesh, numbers, pieces, spread
from .test_register import NATIVE, UPSTREAM, Seeing
from .world import end_background_process

WAYS = ("upstream", "registered")
SAVES = (1, 2)


class Cached(BlockingAsyncStager):
    """Upstream's cache, in memory that is not pinned: without an accelerator none can be."""

    def __init__(self) -> None:
        super().__init__(cache_staged_state_dict=True)

    def stage(self, state_dict: StateDict) -> StateDict:
        if self.state_dict_cache is None:
            self.state_dict_cache = _create_cpu_state_dict(state_dict)
        return super().stage(state_dict)


class Counting(AsyncStager):
    """A caller's own stager: it adds an entry, and DCP has to tell it to synchronize."""

    def __init__(self) -> None:
        self.stages = self.synchronized = 0

    def stage(self, state_dict: StateDict) -> StateDict:
        self.stages += 1
        return copy.deepcopy(state_dict) | {"stages": self.stages}

    def synchronize_staging(self) -> None:
        self.synchronized += 1


class InAFuture(Counting):
    """Gives a future, as stagers that work in the background do."""

    def stage(self, state_dict: StateDict) -> Any:
        future: Future[StateDict] = Future()
        future.set_result(super().stage(state_dict))
        return future


def default_stager(**options: bool) -> DefaultStager:
    names = [field.name for field in dataclasses.fields(StagingOptions)]
    return DefaultStager(StagingOptions(**(dict.fromkeys(names, False) | options)))


STAGERS: dict[str, Callable[[], AsyncStager]] = {
    "default": default_stager,
    "shared memory": lambda: default_stager(use_shared_memory=True),
    "async": lambda: default_stager(use_async_staging=True),
    "async, shared memory": lambda: default_stager(use_async_staging=True, use_shared_memory=True),
    "blocking": BlockingAsyncStager,
    "cached": Cached,
    "counting": Counting,
    "in a future": InAFuture,
}


#: For a state on GPUs. The last one is what DCP uses unless it is given another.
PINNED_STAGERS: dict[str, Callable[[], AsyncStager]] = {
    "pinned": lambda: default_stager(use_pinned_memory=True),
    "pinned, not waited for": lambda: default_stager(
        use_pinned_memory=True, use_non_blocking_copy=True
    ),
    "pinned, async": lambda: default_stager(use_pinned_memory=True, use_async_staging=True),
    "pinned, cached": lambda: BlockingAsyncStager(cache_staged_state_dict=True),
    "pinned, async, shared memory": lambda: DefaultStager(StagingOptions()),
}


def is_used_once() -> bool:
    """Returns whether torch's default stager cannot stage twice: torch 2.11 closes it after use."""
    stager = default_stager()
    stager.stage({})
    try:
        stager.stage({})
    except KeyError:
        return True
    finally:
        stager.close()
    return False


def state() -> StateDict:
    return {
        "w": spread(numbers(7, 2), mesh(2), Shard(0)),
        "columns": spread(numbers(3, 5, dtype=torch.bfloat16), mesh(2), Shard(1)),
        "nested": [numbers(3), {"n": 5}],
        "same": numbers(4),
    }


def change(state: StateDict) -> None:
    for _, value in leaves(state):
        for _, piece in pieces(value) if isinstance(value, torch.Tensor) else ():
            piece.add_(100)
    state["nested"][1]["n"] += 1


def beside(folder: Path, what: str) -> Path:
    return folder.with_name(f"{folder.name}: {what} {dist.get_rank()}")


class WaitingWriter(Seeing, dcp.FileSystemWriter):
    """Waits until the state has changed, and notes for each rank what planned, and where."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        end = time.monotonic() + 30
        while not beside(Path(self.path), "changed on").exists():
            assert time.monotonic() < end, "the state does not change"
            time.sleep(0.002)
        super().set_up_storage_writer(is_coordinator, *args, **kwargs)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Any:
        note = [self.seen, os.getpid(), fallbacks.fallbacks(), os.environ["MASTER_PORT"]]
        beside(Path(self.path), "noted by").write_text(json.dumps(note))
        written: torch.futures.Future[list[WriteResult]] = super().write_data(plan, planner)
        return written


def save_twice(kind: AsyncCheckpointerType, make: Any, folders: list[Path]) -> list[Held]:
    """Returns what was staged for each save."""
    current, staged = state(), []
    stager = make()
    for folder in folders:
        if staged and isinstance(stager, DefaultStager) and is_used_once():
            stager.close()
            stager = make()
        done = dcp.async_save(
            current,
            storage_writer=WaitingWriter(folder, sync_files=False),
            async_stager=stager,
            async_checkpointer_type=kind,
        )
        is_async = isinstance(stager, InAFuture) or getattr(stager, "_staging_executor", None)
        assert isinstance(done, AsyncSaveResponse if is_async else Future)
        if isinstance(done, AsyncSaveResponse):
            done.staging_completion.result(timeout=30)
        staged.append(held(current))
        change(current)
        beside(folder, "changed on").touch()
        getattr(done, "upload_completion", done).result(timeout=60)
        if isinstance(stager, Counting):
            staged[-1]["stages",] = stager.stages
            assert stager.stages == len(staged)
            assert stager.synchronized == (0 if is_async else len(staged))
    stager.close()
    return staged


def folders_of(base: Path, who: str, stager: str) -> list[Path]:
    return [base / f"{stager} by {who}, {nth}" for nth in SAVES]


def save_and_load(kind: AsyncCheckpointerType, base: Path, stagers: Iterable[str]) -> Any:
    """Returns this process, the port of the store, and the data that differs from the staged."""
    fallbacks.clear()
    wrong = []
    server = store_of_all_ranks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASTER_ADDR", server.host)
        patch.setenv("MASTER_PORT", str(server.port))
        patch.setenv("DCP_USE_PREFIX_STORE", "1")
        for name in stagers:
            make = (STAGERS | PINNED_STAGERS)[name]
            for who in WAYS:
                folders = folders_of(base, who, name)
                with planning(who):
                    staged = save_twice(kind, make, folders)
                for folder, expected in zip(folders, staged, strict=True):
                    found = blank(state) | ({"stages": None} if ("stages",) in expected else {})
                    dcp.load(found, checkpoint_id=folder)
                    if not identical(held(found), expected):
                        wrong.append((folder.name, held(found), expected))
    end_background_process()
    dist.barrier()  # The store of rank 0 ends with this function.
    return os.getpid(), server.port, fallbacks.fallbacks(), wrong


def store_of_all_ranks() -> dist.TCPStore:
    """Starts the store of a launcher on rank 0, and connects the others to it."""
    ports = [0]
    if dist.get_rank() == 0:
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        ports = [store.port]
    dist.broadcast_object_list(ports)
    if dist.get_rank() != 0:
        store = dist.TCPStore("127.0.0.1", ports[0], is_master=False)
    return store


def assert_same_files(base: Path, stager: str) -> None:
    upstream, ours = (folders_of(base, who, stager) for who in WAYS)
    for folder, expected in zip(ours, upstream, strict=True):
        assert_same_checkpoint(folder, expected)


def assert_planned_right(
    kind: AsyncCheckpointerType, base: Path, stagers: Iterable[str], who: str, ranks: list[Any]
) -> None:
    """Asserts that the right process and planner planned, by what the writers noted.

    Args:
        ranks: what ``save_and_load`` returned on each.
    """
    for rank, (process, port, _, _) in enumerate(ranks):
        for folder in (folder for name in stagers for folder in folders_of(base, who, name)):
            note = folder.with_name(f"{folder.name}: noted by {rank}")
            seen, planned_in, counts, its_port = json.loads(note.read_text())
            assert seen == (NATIVE if who == "registered" else UPSTREAM)
            assert (planned_in == process) == (kind is AsyncCheckpointerType.THREAD)
            assert not counts
            assert its_port == str(port)  # Another one without DCP_USE_PREFIX_STORE.
