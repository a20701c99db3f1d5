"""Runs the commands as a person does, in a process of their own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ENVIRONMENT = {**os.environ, "COLUMNS": "160", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


def run(*arguments: object, before: str = "") -> Done:
    """``shardplan ARGUMENTS``; before: Python to run first in the same process."""
    program = f"{before}\nfrom shardplan.cli.main import main\nraise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=_ENVIRONMENT,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def told(*arguments: object, status: int = 0) -> Any:
    """What ``--json`` says."""
    done = run(*arguments, "--json")
    assert done.status == status, done
    return json.loads(done.out)


def on_a_terminal(*arguments: object) -> str:
    """What a person at a terminal sees."""
    status, _, seen = watched([sys.executable, "-m", "shardplan", *map(str, arguments)], both=True)
    assert status == 0, seen
    return seen


def watched(command: list[str], both: bool) -> tuple[int, str, str]:
    """Runs a command whose stderr, and stdout where ``both``, is a terminal: status, stdout if it
    is none, and what the terminal shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        stdout=theirs if both else subprocess.PIPE,
        stderr=theirs,
        env={**_ENVIRONMENT, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    seen = b""
    while block := _read(ours):
        seen += block
    os.close(ours)
    out = b"" if process.stdout is None else process.stdout.read()
    return process.wait(60), out.decode(), seen.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # as Linux says that nobody writes any more
        return b""


def copied(checkpoint: Path, folder: Path) -> Path:
    """A checkpoint of one's own, to be damaged."""
    folder.mkdir()
    for file in checkpoint.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder
