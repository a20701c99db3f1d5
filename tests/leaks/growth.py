"""How much a process has grown after many rounds."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import data, planning

#: By name, what returns a function that does one round.
ROUNDS: dict[str, Callable[[], Callable[[], None]]] = planning.ROUNDS | data.ROUNDS
_TESTS = Path(__file__).resolve().parents[1]
#: Bytes by which the allocator and caches may grow, whatever the number of rounds.
_SLACK = 3 << 20


@dataclasses.dataclass
class Growth:
    """What a process has more after a number of rounds, which took ``seconds``.

    ``nones`` are references to None, and ``resident`` is in bytes.
    """

    rounds: int
    seconds: float
    objects: int
    nones: int
    resident: int
    files: int
    threads: int

    def faults(self) -> list[str]:
        """Returns what leaks. Caches and the allocator change by less."""
        found = []
        if abs(self.objects) >= 100:
            found.append(f"{self.objects:+,} objects")
        # From Python 3.12 on, None is immortal and its count does not change.
        if abs(self.nones) >= max(self.rounds // 8, 100):
            found.append(f"{self.nones:+,} references to None")
        if self.resident >= _SLACK + self.rounds * 128:
            found.append(f"{self.resident:+,} bytes of memory")
        if self.files or self.threads:
            found.append(f"{self.files:+} open files, {self.threads:+} threads")
        return found


def _counts() -> list[int]:
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return [
        len(gc.get_objects()),
        sys.getrefcount(None),
        resident,
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
    ]


def measure(name: str, rounds: int, warm_up: int) -> Growth:
    """Runs the rounds in this process, after the warm-up."""
    round_ = ROUNDS[name]()
    for _ in range(warm_up):
        round_()
    _counts()
    before = _counts()
    began = time.monotonic()
    for _ in range(rounds):
        round_()
    seconds = time.monotonic() - began
    return Growth(rounds, seconds, *(b - a for a, b in zip(before, _counts(), strict=True)))


def measure_apart(names: list[str], rounds: int, warm_up: int, timeout: float) -> dict[str, Growth]:
    """Runs the rounds of each name, one after the other, in a new process."""
    arguments = [f"--rounds={rounds}", f"--warm-up={warm_up}", "--here", *names]
    done = subprocess.run(
        [sys.executable, "-m", "leaks", *arguments],
        cwd=_TESTS,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{', '.join(names)}: {done.stderr}")
    found = {}
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        counted, seconds, *counts = line.split()
        found[name] = Growth(int(counted), float(seconds), *map(int, counts))
    return found
