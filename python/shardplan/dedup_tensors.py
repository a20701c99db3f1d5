"""Twin of ``torch.distributed.checkpoint._dedup_tensors``.

It is the stock function: it works on the items themselves, which callers hand to it, and no default
planner calls it.
"""

from __future__ import annotations

from . import _fit  # noqa: F401

# isort: split
from ._stock import dedup_tensors

__all__ = ["dedup_tensors"]
