"""One rank of a world: a forked process that has at most one fault, and notes how it ended."""

from __future__ import annotations

import datetime
import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import utils

from . import checkpoint
from .fault import FILE_CALL, SIZE, Fault
from .interposer import Interposer

#: Seconds that a collective waits for a rank.
GROUP_TIMEOUT = 4.0
SLOW = 0.7


class Folders:
    """Where a world has its files: the checkpoint, and apart from it what the harness needs."""

    def __init__(self, base: Path, notes: str = "notes") -> None:
        self.base = base
        self.watched = base / "files"
        self.checkpoint = self.watched / "checkpoint"
        self.notes = base / notes
        #: They begin and end the second save (``interpose.c``).
        self.second_asked = base / "files.second-asked"
        self.second_done = base / "files.second-done"

    def note(self, rank: int) -> Path:
        return self.notes / f"{rank}.json"

    def log(self, rank: int) -> Path:
        return self.notes / f"{rank}.log"


def run(
    folders: Folders,
    operation: str,
    variant: str,
    rank: int,
    fault: Fault | None,
    call: int,
    value: int,
    deadline: float,
) -> NoReturn:
    """Runs a save or load in this process, and does not return.

    Args:
        fault: what happens in this process; None for nothing.
        call: the file call at which it happens, if that is its place.
        value: what a save writes.
        deadline: for the variants that have one, in seconds.
    """
    with folders.log(rank).open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(folders.notes / "store"), SIZE),
        rank=rank,
        world_size=SIZE,
        timeout=datetime.timedelta(seconds=max(GROUP_TIMEOUT, deadline)),
    )
    interposer = Interposer()
    note: dict[str, Any] = {"raised": None, "text": "", "named": []}
    with checkpoint.using(variant, deadline):
        dist.barrier()
        interposer.watch(folders.watched)
        if fault is not None and fault.place == FILE_CALL:
            interposer.arm(fault, call)
        elif fault is not None:
            _put_into_step(fault, folders)
        start = time.monotonic()
        try:
            if operation == "load":
                checkpoint.load(folders.checkpoint, rank)
            else:
                checkpoint.save(folders.checkpoint, rank, variant, value)
        except BaseException as error:
            failures = getattr(error, "failures", {})
            note["raised"] = type(error).__name__
            note["text"] = str(error)
            note["named"] = sorted(failures)
        note["seconds"] = time.monotonic() - start
        note["calls"] = interposer.calls()
        note["fired"] = interposer.fired() or _fired_in_step
    folders.note(rank).write_text(json.dumps(note))
    os._exit(0)


def _wait_for_a_second_save(folders: Folders) -> None:
    folders.second_asked.touch()
    end = time.monotonic() + 20
    while not folders.second_done.exists() and time.monotonic() < end:
        time.sleep(0.01)


_fired_in_step = False


def _put_into_step(fault: Fault, folders: Folders) -> None:
    """Has the fault happen in a step of the save or load: around one of its functions."""
    step, part = fault.place.split()

    def act() -> None:
        global _fired_in_step
        _fired_in_step = True
        # A process that ends here cannot note it later.
        folders.notes.joinpath("fired").touch()
        if fault.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if fault.action == "slow":
            time.sleep(SLOW)
        if fault.action == "second save":
            _wait_for_a_second_save(folders)
        if fault.action == "fail":
            raise OSError(fault.error, errno.errorcode[fault.error])

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def with_fault(*args: Any) -> Any:
            if fault.moment == "before":
                act()
            result = function(*args)
            if fault.moment == "after":
                act()
            return result

        return with_fault

    def replace(name: str) -> None:
        held = getattr(utils._DistWrapper, name)

        def method(self: Any, at: str, local: Any, *rest: Any) -> Any:
            if at != step:
                return held(self, at, local, *rest)
            if part == "local":
                local = around(local)
            if part == "global":
                rest = tuple(map(around, rest))
            result = held(self, at, local, *rest)
            if part == "end":
                act()
            return result

        setattr(utils._DistWrapper, name, method)

    for name in ("reduce_scatter", "all_reduce", "all_gather"):
        replace(name)
