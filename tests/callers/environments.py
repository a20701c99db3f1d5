"""A virtual environment for each set of requirements, with torch and this checkout's shardplan.

Environments and wheels are kept in ``$CALLERS_ENVS``, or else in ``$XDG_CACHE_HOME``, and used
again while the requirements and the sources are the same.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from .world import SOURCE

TORCH = "torch==2.13.0"
# What the harness itself needs, or what torch warns about if it is missing.
_COMMON = ("numpy",)
_BUILT_FROM = ("CMakeLists.txt", "cmake", "csrc", "pyproject.toml", "python")
_PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"


def folder() -> Path:
    """Returns where environments and wheels are kept."""
    if chosen := os.environ.get("CALLERS_ENVS"):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "shardplan-callers"


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=SOURCE)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\0")
    return digest.hexdigest()[:16]


def _sources() -> str:
    """Returns a digest of everything that the wheel is built from."""
    files = [
        file
        for name in _BUILT_FROM
        for file in sorted([SOURCE / name, *(SOURCE / name).rglob("*")])
        if file.is_file() and "__pycache__" not in file.parts
    ]
    parts = [part for f in files for part in (str(f.relative_to(SOURCE)).encode(), f.read_bytes())]
    return _digest([TORCH.encode(), _PYTHON.encode(), *parts])


def _wheel(python: Path) -> Path:
    """Returns shardplan's wheel; builds it, against the torch of an environment, if it changed."""
    wheels = folder() / "wheels" / _sources()
    if not list(wheels.glob("*.whl")):
        print(f"Building shardplan's wheel in {wheels}", file=sys.stderr)
        draft = wheels.with_name(f"{wheels.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        build = f"-Cbuild-dir={folder() / 'build' / _PYTHON}"
        _run(python, "-m", "pip", "wheel", "-q", "--no-deps", build, "-w", draft, ".")
        draft.replace(wheels)
    return next(wheels.glob("*.whl"))


def environment(requirements: tuple[str, ...]) -> Path:
    """Returns the interpreter of an environment that has the requirements, torch and shardplan."""
    wanted = sorted({TORCH, *_COMMON, *requirements})
    path = folder() / "environments" / _digest([_PYTHON.encode(), *map(str.encode, wanted)])
    python, ready = path / "bin" / "python", path / "shardplan-wheel.txt"
    if not ready.exists():  # it is new, or was interrupted
        print(f"Installing {' '.join(wanted)} in {path}", file=sys.stderr)
        shutil.rmtree(path, ignore_errors=True)
        _run(sys.executable, "-m", "venv", path)
        _run(python, "-m", "pip", "install", "-q", *wanted)
        ready.touch()
    wheel = _wheel(python)
    if ready.read_text(encoding="utf-8") != str(wheel):
        _run(python, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", wheel)
        ready.write_text(str(wheel), encoding="utf-8")
    return python
