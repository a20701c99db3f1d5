"""A save owns its directory: it removes old metadata and locks out other processes (ADR 7)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

import shardplan
from shardplan.dcp.storage import directory_lock

WRITER_KINDS = ["ours", "registered"]


@contextlib.contextmanager
def writer_of_kind(name: str) -> Iterator[type]:
    """Yields the writer class to save with."""
    if name == "registered":
        with shardplan.registered():
            yield dcp.FileSystemWriter
    else:
        yield shardplan.FileSystemWriter


@pytest.fixture(params=WRITER_KINDS)
def writer_class(request: pytest.FixtureRequest) -> Iterator[type]:
    with writer_of_kind(request.param) as cls:
        yield cls


def save(writer: Any, value: float = 1.0) -> None:
    dcp.save({"a": torch.full((4,), value)}, storage_writer=writer, no_dist=True)


def test_old_metadata_is_removed_before_data_is_written(writer_class: Any, tmp_path: Path) -> None:
    seen = []

    class Failing(writer_class):  # type: ignore[misc]
        def write_data(self, plan: Any, planner: Any) -> Any:
            seen.append(sorted(path.name for path in tmp_path.iterdir()))
            raise OSError("the disk is gone")

    save(writer_class(tmp_path))
    (tmp_path / ".metadata.tmp").write_bytes((tmp_path / ".metadata").read_bytes())
    with pytest.raises(CheckpointException, match="the disk is gone"):
        save(Failing(tmp_path), 2.0)
    assert seen == [["__0_0.distcp"]]
    assert not (tmp_path / ".metadata").exists()
    save(writer_class(tmp_path), 3.0)
    loaded = {"a": torch.zeros(4)}
    dcp.load(loaded, checkpoint_id=tmp_path, no_dist=True)
    assert torch.equal(loaded["a"], torch.full((4,), 3.0))


def test_an_invalid_plan_leaves_the_old_checkpoint(
    writer_class: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(writer_class(tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    module = "torch.distributed.checkpoint.default_planner._validate_global_plan"
    monkeypatch.setattr(module, lambda plans, metadata: ["wrong"])
    with pytest.raises(CheckpointException, match="wrong"):
        dcp.save(
            {"a": torch.zeros(4)},
            storage_writer=writer_class(tmp_path),
            planner=shardplan.DefaultSavePlanner(),
            no_dist=True,
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_ranks_without_collectives_remove_their_own_metadata(
    writer_class: Any, tmp_path: Path
) -> None:
    writer = writer_class(tmp_path)
    tmp_path.joinpath(".metadata").write_bytes(b"of all ranks")
    tmp_path.joinpath("__3.metadata").write_bytes(b"of this rank")
    writer.set_up_storage_writer(True, rank=3, use_collectives=False)
    writer.prepare_global_plan([])
    assert [path.name for path in tmp_path.iterdir()] == [".metadata"]


SAVER = """
    import sys, time, warnings
    warnings.simplefilter("ignore")
    import torch, torch.distributed.checkpoint as dcp, shardplan

    class Slow(shardplan.FileSystemWriter):
        def write_data(self, plan, planner):
            print("writing", flush=True)
            sys.stdin.readline()
            return super().write_data(plan, planner)

    dcp.save({"a": torch.zeros(4)}, storage_writer=Slow(sys.argv[1]), no_dist=True)
    print("saved", flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def saving_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is about to write its data into a directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SAVER), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == "writing\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_second_process_fails_and_the_first_one_does_not(
    writer_class: Any, tmp_path: Path
) -> None:
    with saving_process(tmp_path) as process:
        with pytest.raises(CheckpointException, match=r"another process is saving .*test_a_second"):
            save(writer_class(tmp_path))
        save(writer_class(tmp_path / "elsewhere"))
        go_on(process)
        assert process.stdout and process.stdout.readline() == "saved\n"
        # The other process still runs, but holds no lock.
        loaded = {"a": torch.ones(4)}
        dcp.load(loaded, checkpoint_id=tmp_path, no_dist=True)
        assert not loaded["a"].any()
        save(writer_class(tmp_path))
    assert [path.name for path in sorted(tmp_path.iterdir()) if path.is_file()] == [
        ".metadata",
        "__0_0.distcp",
    ]


def test_a_killed_process_holds_no_lock(writer_class: Any, tmp_path: Path) -> None:
    with saving_process(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        save(writer_class(tmp_path))


def test_a_failed_save_of_this_process_does_not_block_the_next(
    writer_class: Any, tmp_path: Path
) -> None:
    class Failing(writer_class):  # type: ignore[misc]
        def write_data(self, plan: Any, planner: Any) -> Any:
            raise OSError("the disk is gone")

    kept = Failing(tmp_path)  # The failed writer still exists when the next one saves.
    with pytest.raises(CheckpointException):
        save(kept)
    save(writer_class(tmp_path))
    assert not directory_lock._held


def test_a_writer_that_lost_its_lock_releases_no_other_lock(tmp_path: Path) -> None:
    first, second = (shardplan.FileSystemWriter(tmp_path) for _ in range(2))
    directory_lock.take(first, tmp_path)
    directory_lock.take(second, tmp_path)
    directory_lock.release(first)
    assert len(directory_lock._held) == 1
    del first
    assert len(directory_lock._held) == 1
    directory_lock.release(second)
    assert not directory_lock._held


def test_the_lock_ends_with_its_writer(tmp_path: Path) -> None:
    writer = shardplan.FileSystemWriter(tmp_path)
    directory_lock.take(writer, tmp_path)
    assert len(directory_lock._held) == 1
    assert id(writer) in directory_lock._by_writer
    gone = id(writer)
    del writer
    assert not directory_lock._held
    assert gone not in directory_lock._by_writer


def test_a_forked_child_holds_no_lock(tmp_path: Path) -> None:
    writer = shardplan.FileSystemWriter(tmp_path)
    directory_lock.take(writer, tmp_path)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        directory_lock.release(writer)
        with saving_process(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_file_system_without_locks_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(directory_lock.fcntl, "flock", without)
    save(shardplan.FileSystemWriter(tmp_path))
    assert not directory_lock._held
    assert (tmp_path / ".metadata").exists()
