"""Real process groups for jobs: gloo processes that live as long as the test run."""

from __future__ import annotations

import dataclasses
import datetime
import faulthandler
import multiprocessing.connection
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import _async_process_executor

_SPAWN = multiprocessing.get_context("spawn")
# Seconds for the other ranks to notice a failure before they are killed.
_GRACE = 3.0


class WorldError(AssertionError):
    """A job raised, died or hung on at least one rank."""


@dataclasses.dataclass
class _Raised:
    text: str


def end_background_process() -> None:
    """Ends the process that DCP keeps on each rank for the next ``async_save``."""
    _async_process_executor._CHECKPOINT_PROCESS = None


def _serve(connection: Connection, rank: int, size: int, store: str, backend: str) -> None:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    if "nccl" in backend:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        backend,
        store=dist.FileStore(store, size),
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(minutes=2),
    )
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:  # The test run is over, or has dropped this world.
            # destroy_process_group is not called: with a dead peer it could wait forever.
            os._exit(0)
        connection.send_bytes(pickle.dumps(_outcome(message)))


def _outcome(message: bytes) -> Any:
    try:
        job, arguments, timeout = pickle.loads(message)
        faulthandler.dump_traceback_later(timeout * 0.9)
        result = job(*arguments)
        dist.barrier()
        pickle.dumps(result)
        return result
    except BaseException:
        return _Raised(traceback.format_exc())
    finally:
        faulthandler.cancel_dump_traceback_later()


class World:
    """``size`` processes with one process group; started at the first job, and after a failed one.

    With NCCL in ``backend``, each rank has a GPU of its own.
    """

    def __init__(self, size: int, folder: Path, backend: str = "gloo") -> None:
        self.size = size
        self._folder = folder
        self._backend = backend
        self._starts = 0
        self._processes: list[SpawnProcess] = []
        self._connections: list[Connection] = []

    def _start(self) -> None:
        self._starts += 1
        store = str(self._folder / f"store-{self.size}-{self._starts}")
        for rank in range(self.size):
            ours, theirs = _SPAWN.Pipe()
            arguments = theirs, rank, self.size, store, self._backend
            process = _SPAWN.Process(target=_serve, args=arguments)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)

    def run(self, job: Callable[..., Any], *arguments: Any, timeout: float = 60) -> list[Any]:
        """Calls ``job(*arguments)`` on every rank and returns each rank's result.

        Raises WorldError, with every rank's traceback, if a rank raised, died, or gave no result in
        ``timeout`` seconds. The processes are gone then.
        """
        if not self._processes:
            self._start()
            timeout += 60
        message = pickle.dumps((job, arguments, timeout))
        for connection in self._connections:
            connection.send_bytes(message)
        outcomes = self._collect(time.monotonic() + timeout)
        missing = dict.fromkeys(range(self.size), f"no result in {timeout:.0f} s")
        wrong = missing | {
            rank: outcome.text if isinstance(outcome, _Raised) else ""
            for rank, outcome in outcomes.items()
        }
        if any(wrong.values()):
            self.close(patience=0)
            raise WorldError(
                "".join(f"\nrank {rank}: {text or 'done'}" for rank, text in wrong.items())
            )
        return [outcomes[rank] for rank in range(self.size)]

    def _collect(self, deadline: float) -> dict[int, Any]:
        waiting: dict[Any, int] = {self._connections[rank]: rank for rank in range(self.size)}
        outcomes: dict[int, Any] = {}
        while waiting and (left := deadline - time.monotonic()) > 0:
            for connection in multiprocessing.connection.wait(list(waiting), left):
                rank = waiting.pop(connection)
                try:
                    outcomes[rank] = pickle.loads(self._connections[rank].recv_bytes())
                except EOFError:
                    self._processes[rank].join(_GRACE)
                    outcomes[rank] = _Raised(f"died, exit code {self._processes[rank].exitcode}")
                if isinstance(outcomes[rank], _Raised):
                    deadline = min(deadline, time.monotonic() + _GRACE)
        return outcomes

    def close(self, patience: float = 2) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(patience)
            if process.is_alive():
                process.kill()
                process.join()
        self._processes, self._connections = [], []


class Worlds:
    """One World of each requested size."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._worlds: dict[int, World] = {}

    def __getitem__(self, size: int) -> World:
        if size not in self._worlds:
            self._worlds[size] = World(size, self._folder)
        return self._worlds[size]

    def close(self) -> None:
        for world in self._worlds.values():
            world.close()
