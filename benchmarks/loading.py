"""Loads whose data alone is read, once they are planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import DefaultLoadPlanner

import shardplan

from .agreement import expect
from .measures import forget_high_water, high_water

READER = {"ours": shardplan.FileSystemReader, "upstream": dcp.FileSystemReader}
PLANNER = {"ours": shardplan.DefaultLoadPlanner, "upstream": DefaultLoadPlanner}

Tensors = dict[str, torch.Tensor]


def reading(
    who: str, folder: Path, targets: Tensors, threads: int = 1, verify: bool = False
) -> Callable[[], None]:
    """Plans a load, and returns the call that reads its data."""
    options = {"thread_count": threads, "verify": verify} if who == "ours" else {}
    return planned(who, READER[who](folder, **options), targets)  # type: ignore[arg-type]


def planned(who: str, reader: dcp.FileSystemReader, targets: Tensors) -> Callable[[], None]:
    planner = PLANNER[who]()
    metadata = reader.read_metadata()
    planner.set_up_planner(targets, metadata, True)
    reader.set_up_storage_reader(metadata, True)
    plan = planner.finish_plan(reader.prepare_local_plan(planner.create_local_plan()))
    return lambda: reader.read_data(plan, planner).wait()


def checked(call: Callable[[], None], targets: Tensors, saved: Tensors) -> None:
    for target in targets.values():
        target.zero_()
    call()
    for name, target in targets.items():
        bits = (tensor.view(torch.uint8) for tensor in (target, saved[name]))
        expect(torch.equal(*bits), f"{name} differs from what was saved")


def added_by(call: Callable[[], None]) -> float:
    """Returns the bytes that a call adds to the peak memory of this process."""
    forget_high_water()
    before = high_water()
    call()
    return high_water() - before
