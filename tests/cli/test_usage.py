"""Common behaviour of all commands: help, statuses, progress, a closed pipe."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shardplan.cli.display.terminal import Progress

from .commands import on_a_terminal, run, run_on_terminal

COMMANDS = ("ls", "inspect", "verify", "repair", "diff", "reshard", "simulate", "info")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    done = run(command, "--help")
    assert done.status == 0
    assert f"shardplan {command}" in done.out.partition("example:")[2]
    assert "--json" in done.out


def test_a_missing_command_is_wrong_usage() -> None:
    assert run().status == 2
    assert all(command in run("--help").out for command in COMMANDS)


def test_info_without_options() -> None:
    assert "The native modules match." in run("info").out
    assert json.loads(run("info", "--json").out)["problem"] is None


def test_module_and_script(checkpoint: Path) -> None:
    by_module = subprocess.run(
        [sys.executable, "-m", "shardplan", "inspect", checkpoint, "--json"],
        capture_output=True,
        check=True,
    )
    script = Path(sys.executable).with_name("shardplan")
    by_script = subprocess.run(
        [script, "inspect", checkpoint, "--json"], capture_output=True, check=True
    )
    assert json.loads(by_module.stdout) == json.loads(by_script.stdout)


def test_closed_pipe(checkpoint: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "shardplan",
            "simulate",
            "--model",
            "llama3-8b",
            "--mesh",
            "4096",
            "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0


def test_quick_work_shows_no_bar(checkpoint: Path) -> None:
    assert "%" not in on_a_terminal("verify", checkpoint, "--deep")


def test_long_work_shows_a_bar_on_stderr() -> None:
    program = (
        "import time\nfrom shardplan.cli.display.terminal import Progress\n"
        "with Progress('reading', 100) as bar:\n"
        "    for _ in range(30):\n        time.sleep(0.05)\n        bar.advance(3)\n"
    )
    status, out, seen = run_on_terminal([sys.executable, "-c", program], both=False)
    assert status == 0
    assert "reading" in seen
    assert out == ""


def test_one_long_call_shows_a_bar_too(checkpoint: Path) -> None:
    seen = on_a_terminal("simulate", "--model", "llama3-405b", "--mesh", "2048")
    assert "planning" in seen.partition("planning time")[0]


def test_no_bar_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress("reading", 10) as bar:
        time.sleep(1.1)
        bar.advance(5)
    assert capfd.readouterr().err == ""
