"""Virtual environments that hold what this one holds, and shardplan built into them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

SOURCE = Path(__file__).resolve().parents[2]

Result = subprocess.CompletedProcess[str]


def site_packages(environment: Path) -> Path:
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return environment / "lib" / name / "site-packages"


def is_torch(name: str) -> bool:
    """Whether an entry of site-packages is torch itself, or what says which version it is."""
    return name == "torch" or (name.startswith("torch-") and name.endswith(".dist-info"))


def link_installed(target: Path, wanted: Callable[[str], bool]) -> None:
    """Links what is installed beside torch into a folder: as good as installed, at no cost."""
    for entry in Path(torch.__file__).parents[1].iterdir():
        ours = "shardplan" in entry.name
        if not ours and entry.suffix != ".pth" and wanted(entry.name):
            (target / entry.name).symlink_to(entry)


def make_environment(folder: Path, wanted: Callable[[str], bool]) -> Path:
    """A virtual environment with the wanted ones of the packages installed here, pip among them."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    link_installed(site_packages(folder), wanted)
    return folder


def run_python(environment: Path, *arguments: object, **variables: str) -> Result:
    """Runs an environment's Python away from the source folder, with these variables set."""
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
    """``pip install`` of the source folder, in a build folder of its own."""
    build = f"-Cbuild-dir={environment / 'build'}"
    command = ("-m", "pip", "install", "--no-deps", build, *options, SOURCE)
    return run_python(environment, *command, **variables)


def succeeded(result: Result) -> str:
    """What a command printed; fails where the command did."""
    assert result.returncode == 0, f"{result.args}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def failed(result: Result) -> str:
    """What a command that has to fail printed, its line breaks as blanks."""
    assert result.returncode != 0, f"{result.args}\n{result.stdout}\n{result.stderr}"
    return " ".join((result.stdout + result.stderr).split())
