"""Starts gloo processes on this machine, waits for them, and leaves none behind."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from .report import Progress

LIMIT_SECONDS = 300

Say = Callable[[str], None]


class WorldFailed(Exception):
    """A process of the world failed, was killed, or did not end in time."""


def run_world(
    job: Callable[..., Any], size: int, progress: Progress, *arguments: object
) -> list[Any]:
    """Runs ``job(say, *arguments)`` in ``size`` processes of one gloo group.

    Returns what each rank returned. ``say(text)`` shows what is being done. Raises WorldFailed.
    """
    context = mp.get_context("spawn")
    messages = context.Queue()
    results: dict[int, Any] = {}
    failures: list[tuple[float, str]] = []

    def take_messages() -> None:
        while not messages.empty():
            kind, rank, value = messages.get()
            if kind == "result":
                results[rank] = value
            elif kind == "failure":
                failures.append(value)
            else:
                progress.say(value)

    with tempfile.TemporaryDirectory(prefix="shardplan-world-") as folder:
        processes = mp.start_processes(
            _process,
            (size, f"{folder}/store", messages, job, arguments),
            nprocs=size,
            join=False,
            daemon=True,
            start_method="spawn",
        )
        try:
            deadline = time.monotonic() + LIMIT_SECONDS
            while not processes.join(timeout=0.2):
                take_messages()
                progress.tick()
                if time.monotonic() > deadline:
                    raise WorldFailed(f"{size} processes did not end in {LIMIT_SECONDS} seconds")
            # A result may still be on its way when its process has ended.
            while len(results) < size and time.monotonic() < deadline:
                take_messages()
                time.sleep(0.01)
        except (mp.ProcessRaisedException, mp.ProcessExitedException) as error:
            take_messages()
            # The first to fail is the cause: its peers then fail for want of it.
            raise WorldFailed(min(failures)[1] if failures else str(error)) from error
        finally:
            for process in processes.processes:
                if process.is_alive():
                    process.kill()
                process.join()
    return [results[rank] for rank in range(size)]


def _process(
    rank: int,
    size: int,
    store: str,
    messages: Any,
    job: Callable[..., Any],
    arguments: tuple[object, ...],
) -> None:
    _quiet()
    # More threads than one only get in each other's way: the processes fill the machine.
    torch.set_num_threads(1)
    if sys.platform == "linux":
        # All processes are on this machine, whose own name may not resolve.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo",
        init_method=Path(store).as_uri(),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=LIMIT_SECONDS),
    )

    def say(text: str) -> None:
        if rank == 0:
            messages.put(("text", rank, text))

    try:
        messages.put(("result", rank, job(say, *arguments)))
    except Exception:
        messages.put(("failure", rank, (time.time(), f"rank {rank}: {traceback.format_exc()}")))
        raise
    finally:
        dist.destroy_process_group()


def _quiet() -> None:
    """Hides warnings of torch about itself that a reader of the demo can do nothing about."""
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
