"""Loads the native module that needs torch."""

from __future__ import annotations

import os

import torch  # loads the libraries to which the native module links

from .._build import build_info

try:
    from .. import _torch as native
except ImportError as error:
    built = build_info()
    raise ImportError(
        f"shardplan's native module does not load with torch {torch.__version__}. Likely causes: "
        f"another build of torch (the module was built for torch {built['torch']}), another Python "
        f"(it was built for {built['python']}), or an incomplete installation. Rebuild it from "
        f"its source folder:  pip install --force-reinstall --no-deps .\n{error}"
    ) from error

# Re-enables the collector in a forked child whose pausing thread does not exist.
os.register_at_fork(after_in_child=native.end_collector_pauses)

__all__ = ["native"]
