"""The memory limit of a command, which is checked against an estimate before the command runs."""

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
    """Adds the option ``--memory-limit``."""
    parser.add_argument(
        "--memory-limit",
        type=_gib,
        metavar="GIB",
        help="memory that the command may use, such as 8 or 8GiB; default: half of what is "
        "available",
    )


def check_memory(needed: int, limit: int | None) -> None:
    """Checks an estimate against the memory limit.

    Args:
        needed: estimated bytes.
        limit: limit in bytes; None for half of the available memory.

    Raises:
        CommandError: ``needed`` exceeds the limit.
    """
    allowed = available() // 2 if limit is None else limit
    if needed <= allowed:
        return
    of_what = "half of the available memory" if limit is None else "the limit"
    raise CommandError(
        f"this would use about {bytes_text(needed)} of memory, and {of_what} is "
        f"{bytes_text(allowed)}: use a smaller mesh, or --memory-limit {-(-needed // _GIB)}GiB"
    )


def available() -> int:
    """Returns the bytes that a process can use without swapping; all memory if unknown."""
    page = os.sysconf("SC_PAGE_SIZE")
    bound = os.sysconf("SC_PHYS_PAGES") * page
    # MemAvailable includes reclaimable caches; SC_AVPHYS_PAGES does not.
    with contextlib.suppress(OSError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.M)
        if found:
            bound = int(found[1]) * 1024
    # The file contains "max" if the container has no limit.
    with contextlib.suppress(OSError, ValueError):
        bound = min(bound, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return bound


def _gib(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:GiB)?", text, re.I)
    if not found or not 0 < (size := float(found[1])) < 1 << 33:
        raise argparse.ArgumentTypeError(f"expected memory such as 8 or 8GiB, got {text!r}")
    return int(size * _GIB)
