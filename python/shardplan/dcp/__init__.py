"""The part of shardplan that imports torch.

The import first checks that torch and Python are the versions for which the native modules were
built. Without this check, another torch would cause an unrelated import error.
"""

from __future__ import annotations

from .._build import check_installation

problem = check_installation()
if problem is not None:
    raise ImportError(problem)
