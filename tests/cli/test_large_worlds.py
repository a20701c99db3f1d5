"""Worlds that are too large for the machine are rejected, and long work can be interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

from shardplan import _core
from shardplan.cli import memory

from .commands import run

of_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc"
)
_COMMAND = [sys.executable, "-m", "shardplan"]


def test_simulate_rejects_worlds_that_exceed_memory() -> None:
    began = time.monotonic()
    done = run("simulate", "--model", "llama3-405b", "--mesh", "1048576")
    assert done.status == 2
    assert "would use about" in done.err
    assert "--memory-limit" in done.err
    assert done.err.count("\n") == 1
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("limit", ["0.001", "0.001GiB", "0.001 gib"])
def test_the_option_sets_the_limit(checkpoint: Path, limit: str) -> None:
    for command in (["simulate", "--from", checkpoint], ["reshard", checkpoint]):
        done = run(*command, "--mesh", "65536", "--memory-limit", limit)
        assert done.status == 2
        assert "the limit is 1.07 MB" in done.err
        allowed = done.err.split("--memory-limit ")[1].split()[0]
        assert run(*command, "--mesh", "65536", "--memory-limit", allowed).status == 0


@pytest.mark.parametrize("limit", ["", "0", "-1", "8GB", "many", "1e3", "9" * 30])
def test_an_invalid_limit(checkpoint: Path, limit: str) -> None:
    done = run("reshard", checkpoint, "--mesh", "2", f"--memory-limit={limit}")
    assert done.status == 2
    assert "expected memory such as 8 or 8GiB" in done.err


def test_available_memory_is_part_of_the_machines() -> None:
    assert 0 < memory.available() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@of_proc
@pytest.mark.parametrize(
    ("tensors", "mesh", "placements"),
    [
        (1, [131072], [("shard", 0, 1)]),
        (400, [512], [("shard", 0, 1)]),
        (400, [512], [("replicate", 0, 1)]),
        (200, [64, 16], [("shard", 0, 1), ("shard", 1, 1)]),
    ],
)
def test_the_estimate_of_a_simulation_is_near_its_memory(
    tensors: int, mesh: list[int], placements: list[tuple[str, int, int]]
) -> None:
    arguments = ([(f"layers.{at}", [4096, 4096], "float32", 4, 0) for at in range(tensors)], mesh)
    estimate = _core.simulation_memory(*arguments, [placements])
    program = (
        "import json, re, sys; from pathlib import Path; from shardplan import _core\n"
        "tensors, mesh, layouts = json.load(sys.stdin)\n"
        "tensors = [tuple(one) for one in tensors]\n"
        "layouts = [[tuple(one) for one in layout] for layout in layouts]\n"
        # resource.getrusage would include the memory of this process, which forks the child.
        "read_status = lambda: Path('/proc/self/status').read_text()\n"
        "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', read_status())[1])\n"
        "before = peak()\n"
        "_core.simulate(tensors, mesh, layouts, 0, 'balanced')\n"
        "print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([*arguments, [placements]]),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    taken = int(done.stdout)
    assert taken / 2 < estimate < 2 * taken


def test_the_estimate_fits_any_number() -> None:
    tensors = [(f"t{at}", [2**20, 2**20], "float32", 4, 0) for at in range(100)]
    layout = [("shard", 0, 1)]
    small = _core.simulation_memory(tensors, [1024], [layout])
    assert 900 * small < _core.simulation_memory(tensors, [1048576], [layout]) < 2**63
    assert _core.simulation_memory([], [2], [layout]) == 0
    with pytest.raises(ValueError, match="at most 1,048,576 ranks"):
        _core.simulation_memory(tensors, [2**40], [layout])


def _memory_of(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return 1024 * int(found[1]) if found else 0


def _stopped_at(arguments: list[str], memory_taken: int) -> tuple[int, float]:
    """Sends SIGINT to a command once it uses more memory than its imports.

    Returns its status, and the seconds until it exits.
    """
    process = subprocess.Popen(
        [*_COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        while _memory_of(process.pid) < memory_taken:
            assert process.poll() is None, "it ended before it was to be stopped"
            time.sleep(0.01)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        return process.returncode, time.monotonic() - sent
    finally:
        process.kill()
        process.wait()


@of_proc
@pytest.mark.parametrize("megabytes", [150, 600, 1500])
def test_simulate_ends_soon_after_an_interrupt(megabytes: int) -> None:
    arguments = ["simulate", "--model", "llama3-8b", "--mesh", "32768", "--memory-limit", "100"]
    status, taken = _stopped_at(arguments, megabytes * 1_000_000)
    assert status == 130
    assert taken < 3


@of_proc
def test_reshard_ends_soon_after_an_interrupt(tmp_path: Path) -> None:
    state_dict = {f"w{at}": torch.ones(2000, 30) for at in range(40)}
    dcp.save(state_dict, checkpoint_id=tmp_path, no_dist=True)
    arguments = ["reshard", str(tmp_path), "--mesh", "1048576", "--memory-limit", "100"]
    status, taken = _stopped_at([*arguments, "--placements", "S(0)"], 200_000_000)
    assert status == 130
    assert taken < 3
