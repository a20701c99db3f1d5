"""How much memory a command may take: what it would take is estimated before it begins."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from pathlib import Path

from ..diagnosis.units import bytes_text
from .failures import CommandError

_GIB = 1 << 30


def add_memory_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory-limit",
        type=_gib,
        metavar="GIB",
        help="memory that this may take, such as 8 or 8GiB; default: half of what is available",
    )


def check_memory(needed: int, limit: int | None) -> None:
    """Refuses what needs more bytes than the limit, or than half of what is available."""
    allowed = available() // 2 if limit is None else limit
    if needed <= allowed:
        return
    of_what = "half of what is available" if limit is None else "the limit"
    raise CommandError(
        f"this would take about {bytes_text(needed)} of memory, and {of_what} is "
        f"{bytes_text(allowed)}: a smaller mesh takes less, and --memory-limit "
        f"{-(-needed // _GIB)}GiB allows it"
    )


def available() -> int:
    """Bytes that a process can take without swapping, or all where the system does not say."""
    page = os.sysconf("SC_PAGE_SIZE")
    least = os.sysconf("SC_PHYS_PAGES") * page
    # SC_AVPHYS_PAGES counts what caches hold as taken.
    with contextlib.suppress(OSError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.M)
        if found:
            least = int(found[1]) * 1024
    # "max" where a container has no limit.
    with contextlib.suppress(OSError, ValueError):
        least = min(least, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return least


def _gib(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:GiB)?", text, re.I)
    if not found or not 0 < (size := float(found[1])) < 1 << 33:
        raise argparse.ArgumentTypeError(f"memory is written as 8 or 8GiB, not {text!r}")
    return int(size * _GIB)
