"""Twin of ``torch.distributed.checkpoint._dedup_tensors``.

It is the upstream function itself, because callers pass materialized items to it and no default
planner calls it.
"""

from __future__ import annotations

from ..upstream.originals import dedup_tensors

__all__ = ["dedup_tensors"]
