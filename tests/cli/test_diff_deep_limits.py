"""``shardplan diff --deep`` stays within its memory limit, and its time is bounded by the files."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata
from torch.distributed.tensor import Shard

from distributed.state_dicts import mesh, spread
from distributed.world import Worlds

from .commands import json_of, run
from .test_diff_deep import edited, of_part, save, saved_part

# The tensor has 320 MiB, and one element differs.
ROWS, COLUMNS = 10240, 8192
_PEAK = """
import atexit, re, sys
def peak():
    print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
atexit.register(peak)
"""
of_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(),
    reason="there is no /proc that says what memory is taken",
)


def save_large(folder: Path, how: str) -> None:
    large = torch.arange(ROWS * COLUMNS, dtype=torch.float32).view(ROWS, COLUMNS)
    if how == "transposed":
        large = large.t().contiguous().t()
    if how != "whole":
        large[ROWS - 1, COLUMNS - 1] = -1
    shards: Any = {"rows": [Shard(0)], "columns": [Shard(1)]}
    state = {"large": spread(large, mesh(4), *shards[how]) if how in shards else large}
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder))


@pytest.fixture(scope="module")
def large(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("large")
    for how in ("whole", "rows", "columns", "transposed"):
        worlds[4].run(save_large, folder / how, how)
    yield folder
    shutil.rmtree(folder)


@of_proc
@pytest.mark.parametrize("how", ["whole", "rows", "columns", "transposed"])
def test_memory_and_time_have_a_limit(large: Path, how: str) -> None:
    peaks = []
    for deep in ([], ["--deep", "--memory-limit", "0.0625"]):
        began = time.monotonic()
        done = run("diff", large / "whole", large / how, *deep, before=f"import numpy\n{_PEAK}")
        assert time.monotonic() - began < 60
        peaks.append(1024 * int(re.findall(r"\d+", done.err)[-1]))
    assert peaks[1] - peaks[0] < 64 << 20
    if how != "whole":
        assert f"large: 1 of {ROWS * COLUMNS:,} elements differs, by " in done.out
    else:
        assert done.status == 0


@of_proc
def test_compared_parts_are_freed(tmp_path: Path) -> None:
    """Of 40 parts of 8 MiB, any may be in memory, but not all at once."""
    folder = save(
        tmp_path / "a", **{str(at): torch.full((1 << 21,), float(at)) for at in range(40)}
    )

    def edit(metadata: Metadata) -> None:
        first: Any = metadata.state_dict_metadata["0"]
        rows = first.size[0]
        first.size = torch.Size([40 * rows])
        first.chunks = [
            ChunkStorageMetadata(torch.Size([at * rows]), torch.Size([rows])) for at in range(40)
        ]
        metadata.state_dict_metadata = {"w": first}
        metadata.storage_data = {
            type(key)("w", torch.Size([int(key.fqn) * rows])): location
            for key, location in metadata.storage_data.items()
        }

    edited(folder, edit)
    peaks = []
    for deep in ([], ["--deep", "--memory-limit", "0.0625"]):
        done = run("diff", folder, folder, *deep, before=f"import numpy\n{_PEAK}")
        assert done.status == 0
        peaks.append(1024 * int(re.findall(r"\d+", done.err)[-1]))
    assert peaks[1] - peaks[0] < 64 << 20
    shutil.rmtree(folder)


def test_a_limit_that_is_too_low(large: Path) -> None:
    done = run("diff", large / "rows", large / "rows", "--deep", "--memory-limit", "0.01")
    assert done.status == 2
    assert "comparing values needs 67.1 MB of memory, and the limit is 10.7 MB" in done.err


@of_proc
def test_it_ends_soon_after_an_interrupt(large: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "shardplan",
        "diff",
        large / "whole",
        large / "transposed",
        "--deep",
        "--memory-limit",
        "0.0625",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        while not any("whole" in name for name in open_files(process.pid)):
            assert process.poll() is None, "it ended before it was to be stopped"
            time.sleep(0.001)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (130, "")
        assert time.monotonic() - sent < 3
    finally:
        process.kill()
        process.wait()


def open_files(pid: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = str(link.readlink())
        except OSError:
            continue
        if name.endswith(".distcp"):
            found.append(name)
    return found


def test_elements_that_share_bytes_are_not_multiplied(tmp_path: Path) -> None:
    """A part of one kilobyte claims 2^40 elements."""
    folder = save(tmp_path / "a", w=torch.zeros(2))

    def edit(metadata: Metadata) -> None:
        saved: Any = metadata.state_dict_metadata["w"]
        saved.size = torch.Size([1 << 40])
        saved.chunks = [ChunkStorageMetadata(torch.Size([0]), saved.size)]

    edited(folder, edit)
    of_part(folder, "w", saved_part(torch.zeros(1).expand(1 << 40), tmp_path))
    began = time.monotonic()
    assert (
        "share bytes"
        in json_of("diff", folder, folder, "--deep", status=2)["values"][0]["not_compared"]
    )
    assert time.monotonic() - began < 10
