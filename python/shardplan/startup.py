"""Registers shardplan in processes whose code does not name it.

``shardplan run`` and the environment variable ``SHARDPLAN_REGISTER`` use it. Nothing is imported
until a process imports ``torch.distributed.checkpoint``, which is then registered at once.

If ``SHARDPLAN_REGISTER=1`` is in the environment of a process, Python imports this module when it
starts: ``shardplan-register.pth``, which is installed beside the package, says so. The processes
that it starts inherit the variable.
"""

from __future__ import annotations

import os
import sys
import warnings

from .testing.sitecustomize_of_child import DCP, AfterImport

VARIABLE = "SHARDPLAN_REGISTER"

_YES = ("1", "true", "yes", "on")
_NO = ("", "0", "false", "no", "off")


def register_when_imported() -> None:
    """Registers shardplan as soon as this process has imported ``torch.distributed.checkpoint``."""
    if DCP in sys.modules:
        _register()
    elif not any(
        isinstance(finder, AfterImport) and finder.then is _register for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, AfterImport(DCP, _register))


def _register() -> None:
    from ._build import check_installation

    problem = check_installation()
    if problem is not None:
        # The process did not ask for shardplan in its code, and works without it.
        warnings.warn(f"shardplan is not registered: {problem}", RuntimeWarning, stacklevel=2)
        return
    from .dcp.registration import register

    register()


def start() -> None:
    """Reads the environment variable. Called by ``shardplan-register.pth``."""
    value = os.environ.get(VARIABLE, "").lower()
    if value in _YES:
        register_when_imported()
    elif value not in _NO:
        warnings.warn(
            f"{VARIABLE} is {value!r}, which is neither 1 nor 0: shardplan is not registered",
            RuntimeWarning,
            stacklevel=2,
        )
