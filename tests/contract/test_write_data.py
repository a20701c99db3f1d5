"""Interrupts, threads and background saves of native writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

import shardplan
from contract.interrupts import interrupted
from shardplan.dcp import fallbacks


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    fallbacks.clear()
    yield
    fallbacks.clear()


def writing(
    path: Path, tensors: dict[str, torch.Tensor], writer: type[Any], **options: Any
) -> Callable[[], Any]:
    """Plans a save, and returns the call that writes its data."""
    used = writer(path, sync_files=False, **options)
    ours = writer is shardplan.FileSystemWriter
    kind = shardplan.DefaultSavePlanner if ours else dcp.DefaultSavePlanner
    planner = kind(flatten_state_dict=False)
    planner.set_up_planner(tensors, None, True)
    used.set_up_storage_writer(True)
    plan = used.prepare_global_plan([used.prepare_local_plan(planner.create_local_plan())])[0]
    return lambda: used.write_data(plan, planner).wait()


def same_memory(count: int, elements: int) -> dict[str, torch.Tensor]:
    """Tensors that take little memory and many bytes of a file."""
    one = torch.ones(elements)
    return {f"x{at}": one for at in range(count)}


@pytest.mark.parametrize(
    "options", [{"write_threads": 1}, {"write_threads": 3}, {"thread_count": 3}], ids=str
)
def test_a_signal_ends_a_save_and_its_threads(options: dict[str, int], tmp_path: Path) -> None:
    call = writing(tmp_path, same_memory(1500, 1 << 20), shardplan.FileSystemWriter, **options)
    with interrupted(after=0.2, within=3):
        call()


def longest_wait(call: Callable[[], object]) -> float:
    """Returns the longest time for which a thread that sleeps in short turns did not run."""
    waits = [0.0]
    ready, stop = threading.Event(), threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        ready.set()
        while not stop.is_set():
            time.sleep(0.0005)
            now = time.perf_counter()
            waits.append(now - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    ready.wait()
    call()
    stop.set()
    thread.join()
    return max(waits)


def test_other_threads_run_while_tensors_are_written(tmp_path: Path) -> None:
    """512 tensors are found at once; then other threads have a turn."""
    tensors = {f"x{at}": torch.ones(64) for at in range(20_000)}
    waits = [
        longest_wait(
            writing(tmp_path / str(at), tensors, shardplan.FileSystemWriter, write_threads=1)
        )
        for at in range(5)
    ]
    assert min(waits) < 0.03


def test_a_background_save_of_many_tensors(tmp_path: Path) -> None:
    tensors = {f"x{at}": torch.full((40,), float(at)) for at in range(500)}
    saves = [
        writing(tmp_path / str(at), tensors, shardplan.FileSystemWriter, thread_count=1 + at)
        for at in range(4)
    ]
    threads = [threading.Thread(target=call) for call in saves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at in range(4):
        folder = tmp_path / f"upstream{at}"
        writing(folder, tensors, dcp.FileSystemWriter, thread_count=1 + at)()
        for file in folder.iterdir():
            assert file.read_bytes() == (tmp_path / str(at) / file.name).read_bytes()
    assert not shardplan.fallbacks()


def test_memory_of_a_save_is_bounded(tmp_path: Path) -> None:
    """Tensors that have to be gathered are copied one after another."""
    base = torch.ones(2, 1 << 22)
    tensors = {f"x{at}": base[:, ::2].t() for at in range(30)}
    call = writing(tmp_path, tensors, shardplan.FileSystemWriter, write_threads=1)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    call()
    assert peak() - before < 200 << 20  # two copies of 16 MiB, and 480 MiB if all were kept


def peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not report the peak memory of a process")
