"""``FileSystemWriter(path, atomic=True)``: its path holds a checkpoint, old or new, or none."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

import shardplan
from shardplan.dcp.storage import atomic_directory
from shardplan.dcp.upstream import versions

STAGING = ".step.shardplan-saving"
SET_ASIDE = ".step.shardplan-replaced"


def save(path: Any, value: float, **options: Any) -> Any:
    writer = shardplan.FileSystemWriter(path, atomic=True, **options)
    state = {"a": torch.full((4,), value), "n": value}
    return dcp.save(state, storage_writer=writer, no_dist=True)


def load(path: Any) -> tuple[float, float]:
    """Returns the value of the tensor and of the other entry, read by upstream."""
    state = {"a": torch.zeros(4), "n": 0.0}
    dcp.load(state, storage_reader=dcp.FileSystemReader(path), no_dist=True)
    assert state["a"].unique().numel() == 1
    return state["a"][0].item(), state["n"]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "step"


@pytest.fixture(params=["exchange", "two steps"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the file system can exchange two directories in one step."""
    if request.param == "two steps":
        monkeypatch.setattr(atomic_directory, "_exchange", lambda one, other: False)
    return str(request.param)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("one_file", [True, False])
def test_files_are_those_of_a_plain_save(path: Path, threads: int, one_file: bool) -> None:
    options = {"thread_count": threads, "single_file_per_rank": one_file}
    returned = save(path, 1.0, **options)
    plain = shardplan.FileSystemWriter(path.with_name("plain"), **options)
    state = {"a": torch.full((4,), 1.0), "n": 1.0}
    dcp.save(state, storage_writer=plain, no_dist=True)
    assert names(path.parent) == ["plain", "step"]
    assert names(path) == names(path.with_name("plain"))
    for name in names(path):
        if name != ".metadata":
            assert (path / name).read_bytes() == path.with_name("plain").joinpath(name).read_bytes()
    metadata = dcp.FileSystemReader(path).read_metadata()
    assert metadata.storage_meta is not None
    assert metadata.storage_meta.checkpoint_id == path
    if versions.finish_changes_its_argument():
        assert returned.storage_meta.checkpoint_id == path
    expected = dcp.FileSystemReader(path.with_name("plain")).read_metadata()
    assert metadata.storage_data == expected.storage_data
    assert metadata.state_dict_metadata == expected.state_dict_metadata


@pytest.mark.parametrize("registered", [False, True])
def test_an_older_checkpoint_is_replaced(path: Path, kind: str, registered: bool) -> None:
    for value in (1.0, 2.0, 3.0):
        with shardplan.registered() if registered else contextlib.nullcontext():
            save(path, value)
        assert load(path) == (value, value)
        assert names(path.parent) == ["step"]
    path.joinpath("__9_0.distcp").write_bytes(b"of a larger world")
    save(path, 4.0)
    assert "__9_0.distcp" not in names(path)


def test_an_empty_directory_is_replaced(path: Path, kind: str) -> None:
    path.mkdir()
    save(path, 1.0)
    assert load(path) == (1.0, 1.0)


def test_relative_paths_and_links(path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(path.parent)
    save("step", 1.0)
    latest = path.with_name("latest")
    latest.symlink_to("step")
    save("latest", 2.0)
    assert latest.is_symlink()
    assert load(path) == load(latest) == (2.0, 2.0)
    assert names(path.parent) == ["latest", "step"]


def test_a_writer_is_used_again(path: Path) -> None:
    writer = shardplan.FileSystemWriter(path, atomic=True)
    for value, target in ((1.0, "one"), (2.0, "two"), (3.0, None)):
        state = {"a": torch.full((4,), value), "n": value}
        target_path = None if target is None else path.with_name(target)
        dcp.save(state, checkpoint_id=target_path, storage_writer=writer, no_dist=True)
    assert load(path.with_name("one")) == (1.0, 1.0)
    assert load(path.with_name("two")) == (3.0, 3.0)
    assert names(path.parent) == ["one", "two"]


class Failing(shardplan.FileSystemWriter):
    """Fails after its data is written."""

    def write_data(self, plan: Any, planner: Any) -> Any:
        super().write_data(plan, planner).wait()
        raise OSError(errno.EIO, "the disk is gone")


def test_a_failed_save_leaves_the_old_checkpoint(path: Path, kind: str) -> None:
    save(path, 1.0)
    state = {"a": torch.full((9,), 2.0)}
    for _ in range(2):
        with pytest.raises(CheckpointException, match="the disk is gone"):
            dcp.save(state, storage_writer=Failing(path, atomic=True), no_dist=True)
        assert load(path) == (1.0, 1.0)
        assert names(path.parent) == [STAGING, "step"]
    path.with_name(STAGING).joinpath("left").mkdir()
    save(path, 3.0)
    assert load(path) == (3.0, 3.0)
    assert names(path.parent) == ["step"]
    assert names(path) == [".metadata", "__0_0.distcp"]


def test_a_failed_rename_leaves_the_old_checkpoint(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(path, 1.0)
    if kind == "exchange":

        def exchange(one: Path, other: Path) -> bool:
            raise OSError(errno.EACCES, "not permitted")

        monkeypatch.setattr(atomic_directory, "_exchange", exchange)
    else:
        rename = Path.rename

        def renamed(self: Path, target: Any) -> Path:
            if self.name == STAGING:
                raise OSError(errno.EACCES, "not permitted")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", renamed)
    with pytest.raises(CheckpointException, match="not permitted"):
        save(path, 2.0)
    assert load(path) == (1.0, 1.0)
    assert names(path.parent) == [STAGING, "step"]


def test_an_old_checkpoint_that_cannot_be_removed(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(path, 1.0)

    def rmtree(folder: Path) -> None:
        raise OSError(errno.EBUSY, "in use")

    monkeypatch.setattr(atomic_directory.shutil, "rmtree", rmtree)
    save(path, 2.0)
    monkeypatch.undo()
    assert load(path) == (2.0, 2.0)
    assert [name in names(path.parent) for name in (STAGING, SET_ASIDE)].count(True) == 1
    assert "cannot be removed" in caplog.text and "in use" in caplog.text
    save(path, 3.0)
    assert load(path) == (3.0, 3.0)
    assert names(path.parent) == ["step"]


def test_what_was_set_aside_is_put_back_through_a_link(path: Path) -> None:
    """As if a save had died between its two renames."""
    save(path, 1.0)
    latest = path.with_name("latest")
    latest.symlink_to("step")
    path.rename(path.with_name(SET_ASIDE))
    with pytest.raises(CheckpointException, match="the disk is gone"):
        dcp.save({"a": torch.zeros(4)}, storage_writer=Failing(latest, atomic=True), no_dist=True)
    assert load(latest) == (1.0, 1.0)
    assert SET_ASIDE not in names(path.parent)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_exchange(
    path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def rename(*arguments: Any) -> int:
        calls.append(arguments)
        atomic_directory.ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(atomic_directory, "_renameat2", lambda: rename)
    save(path, 1.0)
    assert not calls
    save(path, 2.0)
    assert len(calls) == 1
    assert load(path) == (2.0, 2.0)
    assert names(path.parent) == ["step"]


@pytest.mark.parametrize("when", ["before", "while it saves"])
def test_other_files_are_never_removed(path: Path, kind: str, when: str) -> None:
    save(path, 1.0)

    class Adding(shardplan.FileSystemWriter):
        def write_data(self, plan: Any, planner: Any) -> Any:
            path.joinpath("weights.txt").write_text("mine")
            return super().write_data(plan, planner)

    writer = Adding(path, atomic=True)
    if when == "before":
        path.joinpath("weights.txt").write_text("mine")
        writer = shardplan.FileSystemWriter(path, atomic=True)
    with pytest.raises(CheckpointException, match=r"would remove files .*step': weights\.txt\."):
        dcp.save({"a": torch.zeros(4)}, storage_writer=writer, no_dist=True)
    assert load(path) == (1.0, 1.0)
    assert path.joinpath("weights.txt").read_text() == "mine"


def test_a_path_that_is_a_file(path: Path) -> None:
    path.write_text("mine")
    with pytest.raises(CheckpointException, match="would remove files"):
        save(path, 1.0)
    assert path.read_text() == "mine"


def test_a_root_directory() -> None:
    with pytest.raises((ValueError, CheckpointException), match="cannot replace the directory '/'"):
        save("/", 1.0)


def test_overwrite_false(path: Path) -> None:
    save(path, 1.0, overwrite=False)
    with pytest.raises(CheckpointException, match="already exists"):
        save(path, 2.0, overwrite=False)
    assert load(path) == (1.0, 1.0)


@pytest.mark.parametrize("cut", ["missing", "short"])
def test_data_that_the_coordinator_does_not_see(path: Path, cut: str) -> None:
    """As on nodes that do not share a file system."""

    class Losing(shardplan.FileSystemWriter):
        def write_data(self, plan: Any, planner: Any) -> Any:
            written = super().write_data(plan, planner)
            written.wait()
            (file,) = path.with_name(STAGING).glob("*.distcp")
            if cut == "missing":
                file.unlink()
            else:
                os.truncate(file, 100)
            return written

    save(path, 1.0)
    expected = "is missing" if cut == "missing" else r"has 100 of \d+ bytes"
    with pytest.raises(CheckpointException, match=f"__0_0.distcp {expected}.*all ranks share"):
        dcp.save({"a": torch.zeros(4)}, storage_writer=Losing(path, atomic=True), no_dist=True)
    assert load(path) == (1.0, 1.0)


def test_without_a_coordinator(path: Path) -> None:
    writer = shardplan.FileSystemWriter(path, atomic=True)
    with pytest.raises(ValueError, match="atomic=True needs a coordinator"):
        writer.set_up_storage_writer(True, rank=0, use_collectives=False)


# Each child saves over a checkpoint. At its next audit event that names the folder, it is killed,
# or waits until another process has saved to the same path.
PROGRAM = """
    import json, os, shutil, signal, sys, traceback, warnings
    from pathlib import Path
    warnings.simplefilter("ignore")
    sys.path.insert(0, sys.argv[1])
    import torch
    from contract.test_atomic_saves import load, names, save
    from shardplan.dcp.storage import atomic_directory

    kind, folder, what = sys.argv[2], Path(sys.argv[3]), sys.argv[4]
    if kind == "two steps":
        atomic_directory._exchange = lambda one, other: False
    torch.set_num_threads(1)

    def save_in_a_child(path, value, at=-1, act=None):
        child = os.fork()
        if child != 0:
            return child
        count = 0
        def hook(event, arguments):
            nonlocal count
            if any(isinstance(a, (str, bytes, Path)) and "step" in os.fsdecode(a)
                   for a in arguments):
                if count == at:
                    act()
                count += 1
        sys.addaudithook(hook)
        try:
            save(path, value)
        except BaseException as error:
            if "another process is saving" in str(error):
                os._exit(2)
            traceback.print_exc()
            os._exit(3)
        os._exit(0)

    def status_of(child):
        status = os.waitpid(child, 0)[1]
        return os.waitstatus_to_exitcode(status)

    def kill(path, at):
        return [status_of(save_in_a_child(
            path, 2.0, at, lambda: os.kill(os.getpid(), signal.SIGKILL)))]

    def save_twice(path, at):
        (asked, ask), (told, tell) = os.pipe(), os.pipe()
        first = save_in_a_child(path, 2.0, at, lambda: os.write(ask, b"x") and os.read(told, 1))
        os.close(ask)
        statuses = []
        if os.read(asked, 1):
            statuses.append(status_of(save_in_a_child(path, 3.0)))
            os.write(tell, b"x")
        statuses.insert(0, status_of(first))
        for end in (asked, told, tell):
            os.close(end)
        return statuses

    found, at, is_over = [], 0, False
    while not is_over:
        parent = folder / str(at)
        path = parent / "step"
        save(path, 1.0)
        statuses = {"kill": kill, "save twice": save_twice}[what](path, at)
        left = names(parent)
        value = load(path)[0] if path.exists() else None
        save(path, 4.0)
        found.append([value, statuses, left, load(path)[0], names(parent)])
        shutil.rmtree(parent)
        is_over = statuses == [0]
        at += 1
    print(json.dumps(found))
"""


def at_every_step(what: str, kind: str, folder: Path) -> tuple[list[Any], str]:
    """Returns what was found at each step, and what the processes wrote to stderr."""
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tests), kind, str(folder), what],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    assert len(found) > 10
    for *_, after, left_after in found:
        assert after == 4.0
        assert left_after == ["step"]
    return found, done.stderr


@pytest.mark.parametrize("kind", ["exchange", "two steps"])
def test_killed_at_every_step(tmp_path: Path, kind: str) -> None:
    found, _ = at_every_step("kill", kind, tmp_path)
    values = [value for value, *_ in found]
    assert values[0] == 1.0 and values[-1] == 2.0
    for value, _, left, _, _ in found:
        if value is None:  # between the two renames
            assert kind == "two steps" and SET_ASIDE in left
        else:
            assert value in (1.0, 2.0)
    assert (None in values) == (kind == "two steps")


@pytest.mark.parametrize("kind", ["exchange", "two steps"])
def test_two_processes_at_every_step(tmp_path: Path, kind: str) -> None:
    """One of them saves, and the other is told why it does not, or has saved before or after."""
    found, errors = at_every_step("save twice", kind, tmp_path)
    refused = 0
    for value, (first, *second), *_ in found[:-1]:
        assert (first, second) in ((0, [0]), (0, [2]), (2, [0])), errors
        saved = [saves for saves, how in ((2.0, first), (3.0, second[0])) if how == 0]
        assert value in saved
        refused += second == [2]
    assert refused > 5


def test_a_directory_is_put_in_place_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "latest"
    staging, old = atomic_directory.staging(path), atomic_directory.set_aside(path)

    def made(directory: Path, name: str) -> None:
        directory.mkdir()
        (directory / name).write_text(name)

    def found() -> list[str]:
        return sorted(str(file.relative_to(tmp_path)) for file in tmp_path.glob("*/*"))

    for without_exchange in (False, True):
        if without_exchange:
            monkeypatch.setattr(atomic_directory, "_exchange", lambda one, other: False)
        made(staging, "first")
        assert atomic_directory.put_in_place(path) is None
        made(staging, "second")
        assert atomic_directory.put_in_place(path) == old
        assert found() == [".latest.shardplan-replaced/first", "latest/second"]
        made(staging, "third")
        if without_exchange:
            with pytest.raises(FileExistsError):
                atomic_directory.put_in_place(path)
            return
        assert atomic_directory.put_in_place(path) == staging
        assert [file.split("/")[1] for file in found()] == ["first", "second", "third"]
        for directory in (path, staging, old):
            shutil.rmtree(directory)


def test_files_that_are_not_of_a_checkpoint(tmp_path: Path) -> None:
    assert atomic_directory.other_files(tmp_path / "absent") == []
    kept = (".metadata", ".metadata.tmp", "__3.metadata", ".metadata.broken", ".metadata.broken.2")
    for name in (*kept, ".metadata.merged", "__0_0.distcp"):
        (tmp_path / name).touch()
    assert atomic_directory.other_files(tmp_path) == []
    (tmp_path / "notes.txt").touch()
    assert atomic_directory.other_files(tmp_path) == ["notes.txt"]
    assert atomic_directory.other_files(tmp_path / "notes.txt") == ["notes.txt"]
