"""Names in a file are escaped, so that they cannot imitate shardplan's own output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from shardplan.cli.display.wording import printable, shortened

from .commands import json_of, on_a_terminal, run
from .test_verify import edited, location

# A name, and its part that must not be printed.
HOSTILE = {
    "a line of its own": ("x\nsound: 9 entries can be loaded", "\nsound: 9"),
    "a line of its own, by carriage return": ("x\rsound: 9 entries", "\rsound"),
    "other line separators": ("x\u2028sound: 9\x85\x0b\x0c", "\u2028"),
    "colours": ("\x1b[32mgreen\x1b[0m", "\x1b[32m"),
    "a title, in one byte": ("\x9d0;title\x9c", "\x9d"),
    "bidi": ("safe\u202etxt.exe\u2066", "\u202e"),
    "no width": ("a\u200bb\ufeff", "\u200b"),
    "rich's markup": ("[bold red]x[/]", "\x1b[1;31mx"),
    "rich's emoji": ("a:warning:b", "\u26a0"),
}
SEEN = pytest.mark.parametrize(("name", "never"), HOSTILE.values(), ids=HOSTILE)


def save(folder: Path, name: str) -> Path:
    state: dict[str, Any] = {
        name: torch.arange(6.0).view(2, 3),
        f"{name} object": 7,
        "b": torch.ones(2),
    }
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)
    return folder


def commands(folder: Path, other: Path, name: str) -> list[list[object]]:
    return [
        ["ls", folder],
        ["inspect", folder],
        ["inspect", folder, "--tensor", name],
        ["verify", folder],
        ["verify", folder, "--deep"],
        ["diff", folder, other],
        ["reshard", folder, "--mesh", 2, "--placements", "S(5)"],
        ["simulate", "--from", folder, "--mesh", 2, "--placements", "S(5)"],
    ]


@SEEN
def test_names_of_entries_and_files(tmp_path: Path, name: str, never: str) -> None:
    folder, other = save(tmp_path / "saved", name), save(tmp_path / "other", "plain")
    for command in commands(folder, other, name):
        done = run(*command)
        assert done.status in (0, 1, 2), (command, done)
        assert never not in done.out + done.err, command
        if never.startswith("\n"):
            assert not [line for line in done.out.splitlines() if line.startswith("sound: 9")]

    def edit(metadata: Any) -> None:
        location(metadata, name).relative_path = f"{name}.distcp"
        location(metadata, "b").relative_path = f"{name}.distcp"

    edited(folder, edit)
    for command in commands(folder, other, name):
        done = run(*command)
        assert never not in done.out + done.err, command
    found = json_of("verify", folder, status=1)
    assert {one["file"] for one in found["problems"]["no file"]} == {f"{name}.distcp"}


@SEEN
def test_names_on_a_terminal(tmp_path: Path, name: str, never: str) -> None:
    folder = save(tmp_path / "saved", name)
    for command in (["ls", folder], ["inspect", folder], ["inspect", folder, "--tensor", name]):
        assert never not in on_a_terminal(*command).replace("\r\n", "\n")


@SEEN
def test_json_keeps_the_name(tmp_path: Path, name: str, never: str) -> None:
    folder = save(tmp_path / "saved", name)
    assert {one["name"] for one in json_of("ls", folder)["entries"]} == {
        name,
        f"{name} object",
        "b",
    }


def test_holes_of_a_tensor_whose_name_has_lines(tmp_path: Path) -> None:
    name = "x\n  sound: 3 entries can be loaded"
    folder = save(tmp_path / "saved", name)
    edited(folder, lambda metadata: metadata.state_dict_metadata[name].chunks.clear())  # type: ignore[union-attr]
    done = run("verify", folder)
    assert done.status == 1
    assert r"x\n  sound: 3" in done.out
    assert not [line for line in done.out.splitlines() if line.strip().startswith("sound")]


def test_an_error_is_one_line(tmp_path: Path) -> None:
    folder = save(tmp_path / "sa\nved", "weight")
    done = run("inspect", folder, "--tensor", "weigth")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "similar: weight" in done.err


def test_ascii_stdout(tmp_path: Path) -> None:
    """Characters that the encoding does not have are escaped, as are surrogates."""
    name = "重み"
    folder = save(tmp_path / "saved", name)

    def edit(metadata: Any) -> None:
        location(metadata, "b").relative_path = "\udc80重.distcp"

    edited(folder, edit)
    for encoding in ("ascii", "utf-8"):
        for command in commands(folder, folder, name):
            done = subprocess.run(
                [sys.executable, "-m", "shardplan", *map(str, command)],
                capture_output=True,
                env={**os.environ, "PYTHONIOENCODING": encoding},
                timeout=120,
                check=False,
            )
            message = (done.stdout + done.stderr).decode(encoding)
            assert done.returncode in (0, 1, 2), message
            assert "Traceback" not in message
            assert "defect" not in message
            if command[0] == "ls":
                assert (name if encoding == "utf-8" else r"\u91cd\u307f") in message
    data = json_of("verify", folder, status=1)
    # A surrogate is not valid UTF-8, so its bytes are shown.
    assert data["problems"]["no file"][0]["file"] == r"\xed\xb2\x80重.distcp"
    assert json.dumps(data).isascii()


def test_printable_accepts_any_text() -> None:
    every = "".join(map(chr, range(0x11_0000)))
    shown = printable(every)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert printable("重み[0] 'x'") == "重み[0] 'x'"


def test_long_names_are_shortened_in_the_middle() -> None:
    assert shortened("a" * 60) == "a" * 60
    short = shortened("begin." + "x" * 500 + ".end")
    assert len(short) == 60
    assert short.startswith("begin.")
    assert short.endswith(".end")
