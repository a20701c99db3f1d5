"""The exit statuses 0, 1, 2 and 3 are correct for any stdout and any file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

from .commands import copied, json_of, on_a_terminal, run
from .test_verify import edited, file_is_gone, location

BROKEN = (
    "import shardplan.cli.commands.inspect as inspect\n"
    "def fail(*_):\n    raise TypeError('no\\nsuch thing')\n"
    "inspect.entries_of = fail\n"
)


def in_a_shell(line: str, *arguments: object) -> tuple[int, str, str]:
    """Runs a line of sh, in which "$@" is the command."""
    done = subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, "-m", "shardplan", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_bug_exits_with_status_3_and_one_line(checkpoint: Path) -> None:
    done = run("inspect", checkpoint, before=BROKEN)
    assert done.status == 3
    assert done.out == ""
    assert done.err == (
        "shardplan: TypeError: no\\nsuch thing: this is a bug in shardplan; "
        "run with --traceback to print the traceback\n"
    )


@pytest.mark.parametrize("before_command", [True, False])
def test_traceback_shows_the_location(checkpoint: Path, before_command: bool) -> None:
    program = f"{BROKEN}from shardplan.cli.main import main\nraise SystemExit(main())"
    arguments = ["inspect", str(checkpoint)]
    arguments.insert(0 if before_command else 2, "--traceback")
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "in fail" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("shardplan: TypeError")


def test_out_of_memory_is_not_a_bug(checkpoint: Path) -> None:
    done = run("inspect", checkpoint, before=BROKEN.replace("TypeError", "MemoryError"))
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "out of memory" in done.err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["inspect", "--help"], ["info"]])
def test_full_stdout_without_a_checkpoint(arguments: list[str], unbuffered: str) -> None:
    line = f'PYTHONUNBUFFERED={unbuffered} "$@" > /dev/full'
    status, _, err = in_a_shell(line, *arguments)
    assert (status, err) == (2, "shardplan: cannot write to stdout: No space left on device\n")


@pytest.mark.parametrize("options", [[], ["--json"], ["--color", "always"]], ids=str)
@pytest.mark.parametrize("command", ["ls", "inspect", "verify", "repair", "diff", "reshard"])
def test_stdout_that_is_full_or_closed(checkpoint: Path, command: str, options: list[str]) -> None:
    more: list[object] = {"diff": [checkpoint], "reshard": ["--mesh", 2]}.get(command, [])
    arguments = [command, checkpoint, *more, *options]
    full = "shardplan: cannot write to stdout: No space left on device\n"
    for unbuffered in ("", "1"):
        line = f'PYTHONUNBUFFERED={unbuffered} "$@" > /dev/full'
        assert in_a_shell(line, *arguments) == (2, "", full)
    closed = "shardplan: cannot write to stdout: it is closed\n"
    assert in_a_shell('"$@" >&-', *arguments) == (2, "", closed)


def test_stdout_that_is_full_before_all_is_written() -> None:
    arguments = ["simulate", "--model", "llama3-8b", "--mesh", 4096, "--json"]
    status, _, err = in_a_shell('"$@" > /dev/full', *arguments)
    assert (status, err.count("\n")) == (2, 1)


def test_stderr_that_is_full_or_closed(checkpoint: Path, tmp_path: Path) -> None:
    for there in ("2>&-", "2>/dev/full"):
        status, out, _ = in_a_shell(f'"$@" {there}', "inspect", tmp_path / "absent")
        assert (status, out) == (2, ""), there
        status, out, _ = in_a_shell(f'"$@" {there}', "verify", checkpoint)
        assert (status, "sound: 5" in out) == (0, True), there
    assert in_a_shell('"$@" >&- 2>&-', "inspect", checkpoint)[0] == 2


@pytest.mark.parametrize("options", [[], ["--color", "always"]], ids=str)
def test_a_closed_pipe_does_not_hide_damage(
    checkpoint: Path, tmp_path: Path, options: list[str]
) -> None:
    folder = copied(checkpoint, tmp_path / "damaged")
    file_is_gone(folder)
    line = '{ "$@"; echo $? >&2; } | true'
    assert in_a_shell(f"sleep 0; {line}", "verify", folder, *options)[2] == "1\n"
    assert in_a_shell(line, "verify", checkpoint, *options)[2] == "0\n"


def test_ranks_of_5000_digits(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "digits")
    file = f"__{'9' * 5000}_0.distcp"

    def edit(metadata: Any) -> None:
        for name in ("model.half", "model.grid"):
            location(metadata, name).relative_path = file

    edited(folder, edit)
    assert run("inspect", folder).status == 0
    assert run("inspect", folder, "--tensor", "model.half").status == 0
    assert run("reshard", folder, "--mesh", "2").status == 0
    picture = tmp_path / "damage.png"
    assert json_of("verify", folder, "--picture", picture, status=1)["problems"]
    assert picture.stat().st_size > 0


def test_dtypes_of_5000_digits() -> None:
    from shardplan.cli.checkpoint.dtypes import element_size

    assert element_size("int" + "9" * 20_000) is None
    assert element_size("int16") == 2


@pytest.fixture
def more_digits() -> Iterator[None]:
    """Numbers in JSON with more digits than Python parses by default."""
    if not hasattr(sys, "set_int_max_str_digits"):
        yield
        return
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(10_000)
    yield
    sys.set_int_max_str_digits(before)


@pytest.mark.usefixtures("more_digits")
def test_sizes_whose_product_is_beyond_every_float(checkpoint: Path, tmp_path: Path) -> None:
    """They have 374 and 4,667 digits: more than a float has, or than Python prints by default."""
    for dims in (20, 250):
        folder = copied(checkpoint, tmp_path / f"huge-{dims}")

        def edit(metadata: Any, dims: int = dims) -> None:
            size = torch.Size([2**62] * dims)
            saved = metadata.state_dict_metadata["model.half"]
            saved.size = size
            saved.chunks = [ChunkStorageMetadata(torch.Size([0] * dims), size)]

        edited(folder, edit)
        assert json_of("inspect", folder)["elements"] >= 2 ** (62 * dims)
        assert f"about 10^{round(18.66 * dims):,}" in run("inspect", folder).out
        assert run("ls", folder).status == 0
        assert run("inspect", folder, "--tensor", "model.half").status == 0
        assert run("diff", folder, checkpoint).status == 1
        for command in (["verify", folder], ["verify", folder, "--deep"]):
            assert run(*command).status == 1
            assert run(*command, "--json").status == 1
        for command in (["reshard", folder], ["simulate", "--from", folder]):
            done = run(*command, "--mesh", "2")
            assert (done.status, done.err.count("\n")) == (2, 1), done


def test_numbers_of_options(checkpoint: Path) -> None:
    for option in ("--top", "--rows"):
        assert run("inspect", checkpoint, option, "9" * 30).status == 0
        assert run("inspect", checkpoint, option, "9" * 20_000).status == 2


@pytest.mark.parametrize("broken", ["isfile", "size", "_open", "find"])
def test_an_error_of_a_file_system_is_not_a_bug(checkpoint: Path, broken: str) -> None:
    """The errors of a third-party file system need not be an OSError."""
    before = (
        "import fsspec\n"
        "from fsspec.implementations.local import LocalFileSystem\n"
        "class Remote(LocalFileSystem):\n"
        "    protocol = 'remote'\n"
        "    @classmethod\n"
        "    def _strip_protocol(cls, path):\n"
        "        return LocalFileSystem._strip_protocol(path.removeprefix('remote://'))\n"
        f"    def {broken}(self, *_, **__):\n"
        "        raise RuntimeError('no credentials')\n"
        "fsspec.register_implementation('remote', Remote)\n"
    )
    done = run("verify", f"remote://{checkpoint}", before=before)
    assert (done.status, done.err.count("\n")) == (2, 1), done
    assert "RuntimeError: no credentials" in done.err
    healthy = before.replace(broken, "unused")
    assert run("verify", f"remote://{checkpoint}", before=healthy).status == 0


def test_shapes_of_5000_digits(tmp_path: Path) -> None:
    file = tmp_path / "shapes.json"
    for digits in (5_000, 20_000):
        file.write_text(f'{{"w": [{"9" * digits}]}}')
        done = run("simulate", "--shapes", file, "--mesh", "2")
        assert (done.status, done.err.count("\n")) == (2, 1)
        assert len(done.err) < 500


def test_colour(checkpoint: Path) -> None:
    assert "\x1b[" in run("--color", "always", "verify", checkpoint).out
    assert "\x1b[" in run("verify", checkpoint, "--color", "always").out
    assert "\x1b[" not in run("verify", checkpoint).out
    assert "\x1b[" in on_a_terminal("verify", checkpoint)
    assert "\x1b[" not in on_a_terminal("verify", checkpoint, "--color", "never")
    assert run("--color", "blue", "verify", checkpoint).status == 2
    gone = "import sys; sys.modules['rich'] = None"
    done = run("verify", checkpoint, "--color", "always", before=gone)
    assert (done.status, "pip install" in done.err) == (2, True)


def test_no_color(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from . import commands

    monkeypatch.setattr(commands, "_ENVIRONMENT", {**os.environ, "NO_COLOR": "1"})
    assert "\x1b[" not in on_a_terminal("verify", checkpoint)
    assert "\x1b[" in run("verify", checkpoint, "--color", "always").out
    monkeypatch.setattr(commands, "_ENVIRONMENT", {**os.environ, "NO_COLOR": ""})
    assert "\x1b[" in on_a_terminal("verify", checkpoint)


def test_version() -> None:
    import importlib.metadata

    version = importlib.metadata.version("shardplan")
    assert run("--version").out == f"shardplan {version}\n"
    done = run("--version", before="import sys; sys.modules['torch'] = None")
    assert done.status == 0
