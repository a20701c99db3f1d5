"""Twin of ``torch.distributed.checkpoint._dedup_tensors``.

It is upstream's own function: it works on the items themselves, which callers hand to it, and no
default planner calls it.
"""

from __future__ import annotations

from ..upstream.originals import dedup_tensors

__all__ = ["dedup_tensors"]
