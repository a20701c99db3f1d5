"""Saves and loads of several threads at once, and of processes that were forked or spawned."""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

import shardplan
from distributed.checkpoints import assert_same_checkpoint, identical
from shardplan.dcp import fallbacks, wire
from shardplan.dcp.deadlines import dist_wrapper
from shardplan.dcp.lazy import materialize
from shardplan.dcp.registration import registry

THREADS = 4
# A forked child of a process that has used OpenMP must not use it. Tensors of this size are copied
# without it.
ELEMENTS = 900


def state_of(number: int) -> dict[str, Any]:
    tensors = {f"t{at}": torch.arange(ELEMENTS) + 1000 * number + at for at in range(60)}
    return {"model": tensors, "step": number, "names": [f"of {number}", tensors["t3"].float()]}


def blank() -> dict[str, Any]:
    tensors = {f"t{at}": torch.zeros(ELEMENTS, dtype=torch.int64) for at in range(60)}
    return {"model": tensors, "step": -1, "names": ["", torch.zeros(ELEMENTS)]}


def save(state: dict[str, Any], folder: Path) -> None:
    writer = shardplan.FileSystemWriter(folder, sync_files=False, write_threads=2)
    planner = shardplan.DefaultSavePlanner()
    dcp.save(state, storage_writer=writer, planner=planner, no_dist=True)


def load(folder: Path) -> dict[str, Any]:
    state = blank()
    reader, planner = shardplan.FileSystemReader(folder), shardplan.DefaultLoadPlanner()
    dcp.load(state, storage_reader=reader, planner=planner, no_dist=True)
    return state


def save_with_upstream(state: dict[str, Any], folder: Path) -> None:
    writer = dcp.FileSystemWriter(folder, sync_files=False)
    dcp.save(state, storage_writer=writer, no_dist=True)


def at_once(*calls: Callable[[], object]) -> None:
    """Calls each in a thread of its own, all at the same time, and raises the first error."""
    start = threading.Barrier(len(calls))
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        start.wait()
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


@pytest.fixture
def upstream(tmp_path: Path) -> list[Path]:
    """Checkpoints that upstream has saved, one after the other."""
    folders = [tmp_path / f"upstream {number}" for number in range(THREADS)]
    for number, folder in enumerate(folders):
        save_with_upstream(state_of(number), folder)
    return folders


@pytest.fixture
def short_turns() -> Iterator[None]:
    """Threads take turns a thousand times more often than by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("short_turns")
def test_several_threads_save_and_load(tmp_path: Path, upstream: list[Path]) -> None:
    def one(number: int) -> Callable[[], None]:
        def save_and_load() -> None:
            for turn in range(5):
                folder = tmp_path / f"{number} {turn}"
                save(state_of(number), folder)
                assert identical(load(folder), state_of(number))
                assert_same_checkpoint(folder, upstream[number])

        return save_and_load

    before = shardplan.fallbacks()
    at_once(*map(one, range(THREADS)))
    assert shardplan.fallbacks() == before


@pytest.mark.usefixtures("short_turns")
def test_several_threads_load_one_checkpoint(upstream: list[Path]) -> None:
    def one() -> None:
        for _ in range(10):
            assert identical(load(upstream[0]), state_of(0))

    at_once(*[one] * THREADS)


@pytest.mark.usefixtures("short_turns")
def test_a_save_while_another_thread_registers(tmp_path: Path, upstream: list[Path]) -> None:
    """Steps of such a save may be upstream's or shardplan's."""
    done = threading.Event()

    def register() -> None:
        while not done.is_set():
            with shardplan.registered():
                pass

    def saves() -> None:
        try:
            for turn in range(10):
                save_with_upstream(state_of(1), tmp_path / str(turn))
                loaded = blank()
                dcp.load(loaded, checkpoint_id=tmp_path / str(turn), no_dist=True)
                assert identical(loaded, state_of(1))
                assert_same_checkpoint(tmp_path / str(turn), upstream[1])
        finally:
            done.set()

    at_once(saves, register)


class Child:
    """A forked child that makes a call. It ends after a while if the call does not."""

    def __init__(self, call: Callable[[], object], within: float = 60) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = os.fork()
        if self._process:
            return
        status = 1
        try:
            faulthandler.dump_traceback_later(within, exit=True, file=self._errors)
            call()
            status = 0
        except BaseException:
            traceback.print_exc(file=self._errors)
            self._errors.flush()
        finally:
            os._exit(status)

    def join(self) -> None:
        """Waits until it ends, and raises an error if it failed."""
        status = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        with self._errors as errors:
            errors.seek(0)
            assert status == 0, f"a child ended with {status}: {errors.read()}"


@pytest.fixture
def no_logging() -> Iterator[None]:
    """Python does not renew the lock of a file that handlers of pytest write to."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("no_logging")
def test_a_fork_while_other_threads_save(tmp_path: Path, upstream: list[Path]) -> None:
    children: list[Child] = []
    done = threading.Event()

    def saves() -> None:
        try:
            for turn in range(20):
                save(state_of(2), tmp_path / str(turn))
                assert_same_checkpoint(tmp_path / str(turn), upstream[2])
        finally:
            done.set()

    def forks() -> None:
        while not done.wait(0.02) and len(children) < 12:
            folder = tmp_path / f"of child {len(children)}"
            children.append(Child(lambda to=folder: save_and_load(to)))

    def save_and_load(folder: Path) -> None:
        save(state_of(3), folder)
        assert identical(load(folder), state_of(3))
        assert identical(load(upstream[1]), state_of(1))

    # Nor does it renew the locks of modules that are being imported.
    save_and_load(tmp_path / "first")
    at_once(saves, forks)
    assert len(children) > 1
    for at, child in enumerate(children):
        child.join()
        assert_same_checkpoint(tmp_path / f"of child {at}", upstream[3])


@pytest.mark.parametrize(
    "module", [dist_wrapper, fallbacks, materialize, registry, wire], ids=lambda it: it.__name__
)
def test_a_fork_while_another_thread_holds_a_lock(module: Any) -> None:
    lock = module.lock if module is materialize else module._lock
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            forked.wait()

    def take() -> None:
        with lock:
            pass

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        Child(take, within=10).join()
    finally:
        forked.set()
        thread.join()


def test_a_fork_by_the_thread_that_holds_a_lock() -> None:
    with fallbacks._lock:
        Child(fallbacks.fallbacks, within=10).join()


def save_with(writer: Any, planner: Any, number: int) -> None:
    dcp.save(state_of(number), storage_writer=writer, planner=planner, no_dist=True)


def test_a_spawned_process_saves_with_our_planner_and_writer(
    tmp_path: Path, upstream: list[Path]
) -> None:
    writer = shardplan.FileSystemWriter(tmp_path / "saved", sync_files=False)
    arguments = (writer, shardplan.DefaultSavePlanner(), 2)
    process = multiprocessing.get_context("spawn").Process(target=save_with, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert_same_checkpoint(tmp_path / "saved", upstream[2])
    assert identical(load(tmp_path / "saved"), state_of(2))
