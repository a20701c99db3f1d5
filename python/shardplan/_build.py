"""Versions that the native modules were built for, and whether they match the environment."""

from __future__ import annotations

import importlib.metadata
import sys

OLDEST_TORCH = (2, 11)


def build_info() -> dict[str, str]:
    """Returns the versions with which shardplan was built. Does not import torch.

    Returns:
        A dict with the keys ``shardplan``, ``torch``, ``python``, ``pybind11``, ``compiler``,
        ``platform`` and ``build_type``.

    Raises:
        ImportError: the native modules are missing.
    """
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
    """Returns the version of the installed torch; None if there is none. Does not import torch."""
    if "torch" in sys.modules:
        return str(sys.modules["torch"].__version__)
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def found_python() -> str:
    """Returns the running Python's version as ``major.minor``, with ``t`` if free-threaded."""
    free_threaded = "t" if "t" in sys.abiflags else ""
    return f"{sys.version_info.major}.{sys.version_info.minor}{free_threaded}"


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def check_installation() -> str | None:
    """Checks whether the native modules match the installed torch and the running Python.

    Returns:
        None if they match, else an error message that names a command to run.
    """
    built = build_info()
    torch = found_torch()
    reinstall = "pip install --force-reinstall --no-deps ."
    if torch is None:
        return (
            f"shardplan was built for torch {built['torch']} and found no torch. "
            f"Run:  pip install torch=={built['torch'].split('+')[0]}"
        )
    if _minor(torch) < OLDEST_TORCH:
        return (
            f"shardplan needs torch {OLDEST_TORCH[0]}.{OLDEST_TORCH[1]} or later and found {torch}."
            f" Run:  pip install torch=={built['torch'].split('+')[0]}"
        )
    if _minor(torch) != _minor(built["torch"]):
        return (
            f"shardplan was built for torch {built['torch']} and found torch {torch}. "
            "Install its wheel for that torch, or rebuild it from its source folder:  "
            f"{reinstall}"
        )
    if found_python() != built["python"]:
        return (
            f"shardplan was built for Python {built['python']} and found Python {found_python()}."
            " Install its wheel for that Python, or rebuild it from its source folder:  "
            f"{reinstall}"
        )
    return None
