"""What this installation was built with, what it finds now, and whether the two fit."""

from __future__ import annotations

import importlib.metadata
import sys

OLDEST_TORCH = (2, 11)


def build_info() -> dict[str, str]:
    """Versions that this installation was built with, by name. Does not import torch."""
    try:
        from . import _build_info as built
    except ImportError as error:
        raise ImportError(
            "shardplan is not built: its native modules are missing. "
            "Install it beside torch:  pip install ."
        ) from error
    return {
        "shardplan": built.SHARDPLAN,
        "torch": built.TORCH,
        "python": built.PYTHON,
        "pybind11": built.PYBIND11,
        "compiler": built.COMPILER,
        "platform": built.PLATFORM,
        "build_type": built.BUILD_TYPE,
    }


def found_torch() -> str | None:
    """Version of the torch that is installed now, or None. Does not import torch."""
    if "torch" in sys.modules:
        return str(sys.modules["torch"].__version__)
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def found_python() -> str:
    """Version of the running Python, as major.minor."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def misfit() -> str | None:
    """Why the native modules cannot be used here, and what to run; None if they can."""
    built = build_info()
    torch = found_torch()
    reinstall = "pip install --force-reinstall --no-deps ."
    if torch is None:
        return (
            f"shardplan needs torch, built for {built['torch']}, and finds none. "
            f"Run:  pip install torch=={built['torch'].split('+')[0]}"
        )
    if _minor(torch) < OLDEST_TORCH:
        return (
            f"shardplan needs torch {OLDEST_TORCH[0]}.{OLDEST_TORCH[1]} or later and finds {torch}."
            f" Run:  pip install torch=={built['torch'].split('+')[0]}"
        )
    if _minor(torch) != _minor(built["torch"]):
        return (
            f"shardplan was built for torch {built['torch']} and finds torch {torch}. "
            f"Rebuild it from its source folder:  {reinstall}"
        )
    if found_python() != built["python"]:
        return (
            f"shardplan was built for Python {built['python']} and runs on Python {found_python()}."
            f" Rebuild it from its source folder:  {reinstall}"
        )
    return None
