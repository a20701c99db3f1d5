"""Runs the commands as a user does, in a separate process."""

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
    """Runs ``shardplan ARGUMENTS``.

    before: Python code that runs first in the same process
    """
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


def json_of(*arguments: object, status: int = 0) -> Any:
    """Runs a command with ``--json`` and returns the parsed output."""
    done = run(*arguments, "--json")
    assert done.status == status, done
    return json.loads(done.out)


def on_a_terminal(*arguments: object) -> str:
    """Returns the output of a command on a terminal."""
    status, _, seen = run_on_terminal(
        [sys.executable, "-m", "shardplan", *map(str, arguments)], both=True
    )
    assert status == 0, seen
    return seen


def run_on_terminal(command: list[str], both: bool) -> tuple[int, str, str]:
    """Runs a command whose stderr, and also stdout if ``both``, is a terminal.

    Returns the status, stdout if it is not a terminal, and the output on the terminal.
    """
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
    except OSError:  # Linux raises this when the other end is closed.
        return b""


def copied(checkpoint: Path, folder: Path) -> Path:
    """Copies a checkpoint, so that a test can damage it."""
    folder.mkdir()
    for file in checkpoint.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder
