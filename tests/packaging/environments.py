"""Virtual environments with the packages of this one, into which shardplan is built."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from wheels.environments import Result, site_packages

SOURCE = Path(__file__).resolve().parents[2]


def is_torch(name: str) -> bool:
    """Returns whether an entry of site-packages is torch or its metadata."""
    return name == "torch" or (name.startswith("torch-") and name.endswith(".dist-info"))


def link_installed(target: Path, wanted: Callable[[str], bool]) -> None:
    """Links the packages installed beside torch into a folder, which is fast."""
    for entry in Path(torch.__file__).parents[1].iterdir():
        ours = "shardplan" in entry.name
        if not ours and entry.suffix != ".pth" and wanted(entry.name):
            (target / entry.name).symlink_to(entry)


def make_environment(folder: Path, wanted: Callable[[str], bool]) -> Path:
    """Creates a virtual environment with some of the packages installed here, including pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    link_installed(site_packages(folder), wanted)
    return folder


def run_python(environment: Path, *arguments: object, **variables: str) -> Result:
    """Runs an environment's Python outside the source folder, with these variables set."""
    inherited = dict(os.environ)
    for name in ("PYTHONPATH", "SHARDPLAN_TORCH_DIR"):
        inherited.pop(name, None)
    return subprocess.run(
        [str(environment / "bin" / "python"), *map(str, arguments)],
        env={**inherited, **variables},
        cwd=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def install(environment: Path, *options: str, **variables: str) -> Result:
    """Runs ``pip install`` on the source folder, in a separate build folder."""
    build = f"-Cbuild-dir={environment / 'build'}"
    command = ("-m", "pip", "install", "--no-deps", build, *options, SOURCE)
    return run_python(environment, *command, **variables)


def succeeded(result: Result) -> str:
    """Returns the output of a command; fails if the command failed."""
    assert result.returncode == 0, f"{result.args}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def failed(result: Result) -> str:
    """Returns the output of a command that must fail, with line breaks as blanks."""
    assert result.returncode != 0, f"{result.args}\n{result.stdout}\n{result.stderr}"
    return " ".join((result.stdout + result.stderr).split())
