"""The public names of ``torch.distributed.checkpoint._dedup_tensors``."""

from __future__ import annotations

from .dcp.twins.dedup_tensors import dedup_tensors

__all__ = ["dedup_tensors"]
