"""A process that dies in ``finish``, and a disk that is full.

The metadata of an older checkpoint, whose data files are overwritten by then, is removed (ADR 7).
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

import shardplan

PROGRAM = textwrap.dedent(
    """
    import os, signal, sys, warnings
    from pathlib import Path
    import torch, torch.distributed.checkpoint as dcp, shardplan
    from torch.distributed.checkpoint import filesystem
    from shardplan.dcp.storage import metadata_file

    warnings.simplefilter("ignore")
    step, folder = sys.argv[1], Path(sys.argv[2])

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def before(holder, name):
        setattr(holder, name, die)

    def after(holder, name):
        done = getattr(holder, name)
        def and_die(*args, **kwargs):
            done(*args, **kwargs)
            die()
        setattr(holder, name, and_die)

    finish = shardplan.FileSystemWriter.finish
    def dying(self, metadata, results):
        if step == "before the file": before(filesystem.FileSystem, "create_stream")
        if step == "the file open": before(metadata_file, "dump")
        if step == "half written":
            def dump(metadata, stream):
                stream.write(b"half")
                stream.flush()
                die()
            metadata_file.dump = dump
        if step == "written": after(metadata_file, "dump")
        if step == "before fsync": before(os, "fsync")
        if step == "after fsync": after(os, "fsync")
        if step == "before rename": before(filesystem.FileSystem, "rename")
        if step == "after rename": after(filesystem.FileSystem, "rename")
        finish(self, metadata, results)
        if step == "at the end": die()
    shardplan.FileSystemWriter.finish = dying
    if step == "full":
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        def limited(self, metadata, results):
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
            finish(self, metadata, results)
        shardplan.FileSystemWriter.finish = limited
    dcp.save(
        {"a": torch.ones(3), "b": torch.ones(2)},
        storage_writer=shardplan.FileSystemWriter(folder),
        planner=shardplan.DefaultSavePlanner(),
        no_dist=True,
    )
    """
)
# Each step, and whether the new metadata exists after a process died in it.
STEPS = {
    "before the file": False,
    "the file open": False,
    "half written": False,
    "written": False,
    "before fsync": False,
    "after fsync": False,
    "before rename": False,
    "after rename": True,
    "at the end": True,
}


def save(step: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, step, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def keys(folder: Path) -> list[str]:
    """The keys in the metadata of the folder, as upstream's reader and shardplan's read it."""
    upstream = list(dcp.FileSystemReader(folder).read_metadata().state_dict_metadata)
    assert list(shardplan.FileSystemReader(folder).read_metadata().state_dict_metadata) == upstream
    return upstream


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A checkpoint in the same folder."""
    writer = shardplan.FileSystemWriter(tmp_path)
    dcp.save({"a": torch.zeros(3)}, storage_writer=writer, no_dist=True)
    return tmp_path


@pytest.mark.parametrize("step", STEPS)
def test_killed(before: Path, step: str) -> None:
    done = save(step, before)
    assert done.returncode == -signal.SIGKILL, done.stderr
    if STEPS[step]:
        assert keys(before) == ["a", "b"]
    else:
        assert not (before / ".metadata").exists()
    # The files of the failed save do not block the next one.
    assert save("none", before).returncode == 0
    assert keys(before) == ["a", "b"]
    assert not (before / ".metadata.tmp").exists()


def test_full_disk(before: Path) -> None:
    done = save("full", before)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "CheckpointException" in done.stderr
    assert not (before / ".metadata").exists()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100


def test_temporary_file_cannot_be_created(before: Path) -> None:
    """The error is upstream's. Upstream leaves the old file, which describes other data."""
    (before / ".metadata.tmp").mkdir()
    messages = []
    for writer in (dcp.FileSystemWriter, shardplan.FileSystemWriter):
        with pytest.raises(dcp.api.CheckpointException) as caught:
            dcp.save({"b": torch.ones(1)}, storage_writer=writer(before), no_dist=True)
        messages.append(str(caught.value.failures[0][0]))
    assert messages[0] == messages[1]
    assert "Is a directory" in messages[0]
    assert not (before / ".metadata").exists()
