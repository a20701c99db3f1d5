"""Real pytest runs with the plugin, on small test files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

# The test files below start with these lines.
SAVE = """
    import inspect, multiprocessing, os, signal, subprocess, sys
    import torch
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.default_planner import create_default_local_save_plan as held

    def save(path):
        dcp.save({"a": torch.ones(3)}, checkpoint_id=path, no_dist=True)
"""


def run(
    folder: Path, *arguments: str, plugin: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    chosen = ["-p", "shardplan.pytest_plugin"] if plugin else []
    temporary = folder / "t"  # the paths of sockets, which lie there, are short
    temporary.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "pytest", *chosen, "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary), **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
    )


def write(folder: Path, name: str, *parts: str) -> None:
    (folder / name).write_text("\n".join(textwrap.dedent(part) for part in parts))


def counted(output: str) -> tuple[dict[str, int], int]:
    """Returns the calls by function, and the number of processes, from the output of the run."""
    total = re.search(r"^(\d+) calls of shardplan's functions in (\d+) processes$", output, re.M)
    assert total, output
    by_name = {
        name: int(count) for count, name in re.findall(r"^ +(\d+) (\S+)$", output, re.MULTILINE)
    }
    assert sum(by_name.values()) == int(total[1])
    return by_name, int(total[2])
