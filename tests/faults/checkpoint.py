"""What is saved, how, and what a directory holds afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import shardplan

from .fault import SIZE

OLD, NEW, SECOND = 1, 2, 3
#: Seconds that a rank waits for others, with a deadline; and if one of them is only slow.
DEADLINE, PATIENT_DEADLINE = 1.5, 20.0
TORCH, SHARDPLAN, WITH_DEADLINE, ATOMIC = "torch", "shardplan", "deadline", "atomic"
VARIANTS = {
    "save": (TORCH, SHARDPLAN, WITH_DEADLINE, ATOMIC),
    "overwrite": (TORCH, SHARDPLAN, WITH_DEADLINE, ATOMIC),
    "load": (TORCH, SHARDPLAN, WITH_DEADLINE),
}
_LAYERS = 6
_ROWS, _COLUMNS = 8, 16


def _values(value: int, rows: int, first: int = 0) -> torch.Tensor:
    count = torch.arange(rows * _COLUMNS, dtype=torch.float32) + first * _COLUMNS
    return (count.view(rows, _COLUMNS) % 97 + 1) * value


def sharded_state(value: int, rank: int) -> dict[str, Any]:
    """The state dict of one rank, in a process group."""
    mesh = init_device_mesh("cpu", (SIZE,))
    state: dict[str, Any] = {"step": value, f"rng.{rank}": [value, rank]}
    for layer in range(_LAYERS):
        local = _values(value, _ROWS, rank * _ROWS)
        state[f"layers.{layer}.weight"] = DTensor.from_local(
            local, mesh, [Shard(0)], run_check=False
        )
        state[f"layers.{layer}.bias"] = _values(value, 1)
    return state


def _whole_state(value: int) -> dict[str, Any]:
    state: dict[str, Any] = {"step": value}
    state |= {f"rng.{rank}": [value, rank] for rank in range(SIZE)}
    for layer in range(_LAYERS):
        state[f"layers.{layer}.weight"] = _values(value, SIZE * _ROWS)
        state[f"layers.{layer}.bias"] = _values(value, 1)
    return state


def warm_up(folder: Path) -> None:
    """Imports what a save and a load import, so that forked ranks need not."""
    torch.set_num_threads(1)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=SIZE)
    sharded_state(OLD, 0)
    dist.destroy_process_group()
    for variant in (TORCH, SHARDPLAN):
        with using(variant):
            dcp.save(_whole_state(OLD), checkpoint_id=folder, no_dist=True)
        contents(folder)


def _is_equal(state: dict[str, Any], expected: dict[str, Any]) -> bool:
    def plain(value: Any) -> Any:
        value = value.to_local() if isinstance(value, DTensor) else value
        return value.tolist() if isinstance(value, torch.Tensor) else value

    return all(plain(state[name]) == plain(value) for name, value in expected.items())


@contextlib.contextmanager
def using(variant: str, deadline: float = DEADLINE) -> Iterator[None]:
    if variant == TORCH:
        yield
        return
    with shardplan.registered(timeout=None if variant == SHARDPLAN else deadline):
        yield


def save(path: Path, rank: int, variant: str, value: int) -> None:
    writer: dcp.StorageWriter
    if variant == ATOMIC:
        writer = shardplan.FileSystemWriter(path, atomic=True)
    elif variant == WITH_DEADLINE:
        writer = shardplan.FileSystemWriter(path)
    else:
        writer = dcp.FileSystemWriter(path)
    dcp.save(sharded_state(value, rank), storage_writer=writer)


def load(path: Path, rank: int) -> None:
    """Loads, and raises an AssertionError if a value is wrong."""
    state = sharded_state(NEW, rank)
    dcp.load(state, storage_reader=dcp.FileSystemReader(path))
    expected = sharded_state(OLD, rank)
    assert _is_equal(state, expected), "the load returned, and a value is wrong"


def contents(path: Path) -> str:
    """What a process alone finds: ``old``, ``new``, ``second``, ``mixed``, ``none``, an error.

    torch and shardplan both load it, and must agree.
    """
    logging.disable(logging.CRITICAL)  # DCP logs every error, too.
    found = [_contents(path, registered) for registered in (False, True)]
    return found[0] if found[0] == found[1] else f"torch: {found[0]}, shardplan: {found[1]}"


def _contents(path: Path, registered: bool) -> str:
    if not (path / ".metadata").exists():
        return "none"
    state = _whole_state(0)
    with shardplan.registered() if registered else contextlib.nullcontext():
        try:
            dcp.load(state, storage_reader=dcp.FileSystemReader(path), no_dist=True)
        except BaseException:
            return "unreadable"
    for name, value in (("old", OLD), ("new", NEW), ("second", SECOND)):
        if _is_equal(state, _whole_state(value)):
            return name
    return "mixed"


def fingerprint(folder: Path) -> dict[str, str]:
    """The files of a folder, and a hash of each."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
