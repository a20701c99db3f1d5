"""Checks that this environment plans, saves and loads natively: ``shardplan info --check``."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from . import fallbacks
from .planners.load import DefaultLoadPlanner
from .planners.save import DefaultSavePlanner
from .storage.filesystem import FileSystemReader, FileSystemWriter


def check() -> dict[str, Any]:
    """Saves and loads a small state dict with shardplan's planners and storage classes.

    Returns:
        A dict with the keys ``entries`` (number of entries saved and loaded), ``fallbacks``
        (reason -> count) and ``differences`` (names of entries whose loaded value differs).
    """
    before = fallbacks.fallbacks()
    with _one_rank(), tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = os.path.join(folder, "checkpoint")
        saved = _state_dict(1)
        dcp.save(
            saved,
            storage_writer=FileSystemWriter(path),
            planner=DefaultSavePlanner(),
            no_dist=not dist.is_initialized(),
        )
        loaded = _state_dict(0)
        dcp.load(
            loaded,
            storage_reader=FileSystemReader(path),
            planner=DefaultLoadPlanner(),
            no_dist=not dist.is_initialized(),
        )
        differences = [name for name in saved if not _is_same(saved[name], loaded[name])]
    counts = {
        reason: count - before.get(reason, 0)
        for reason, count in fallbacks.fallbacks().items()
        if count > before.get(reason, 0)
    }
    return {"entries": len(saved), "fallbacks": counts, "differences": differences}


@contextlib.contextmanager
def _one_rank() -> Iterator[None]:
    """Context manager with a process group of one rank, if there is no process group.

    torch's collectives of objects need NumPy, which torch does not require. Without it, there is no
    group.
    """
    has_numpy = importlib.util.find_spec("numpy") is not None
    is_possible = dist.is_available() and dist.is_gloo_available() and has_numpy
    if dist.is_initialized() or not is_possible:
        yield
        return
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _state_dict(value: int) -> dict[str, Any]:
    state_dict: dict[str, Any] = {
        "matrix": torch.full((4, 6), float(value)),
        "bfloat16": torch.full((5,), value, dtype=torch.bfloat16),
        "scalar": torch.tensor(value),
        "parameter": torch.nn.Parameter(torch.full((3,), float(value))),
        "object": {"step": value},
    }
    if dist.is_initialized():
        mesh = DeviceMesh("cpu", list(range(dist.get_world_size())))
        local = torch.full((4, 2), float(value))
        state_dict["sharded"] = DTensor.from_local(local, mesh, [Shard(0)], run_check=False)
    return state_dict


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, DTensor):
        return torch.equal(a.to_local(), b.to_local())
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)
