"""Loads the native modules, after checking that they fit the torch and Python that run."""

from __future__ import annotations

import os

import torch  # its libraries must be loaded before ours

from .._build import build_info

try:
    from .. import _torch as native
except ImportError as error:
    built = build_info()
    raise ImportError(
        f"shardplan's native module does not load with torch {torch.__version__}. Likely causes: "
        f"another build of torch (this one was built for torch {built['torch']}), another Python "
        f"(built for {built['python']}), or an installation that was cut short. Rebuild it from "
        f"its source folder:  pip install --force-reinstall --no-deps .\n{error}"
    ) from error

# A child that is forked while another thread makes objects has nobody to end the pause.
os.register_at_fork(after_in_child=native.end_collector_pauses)

__all__ = ["native"]
