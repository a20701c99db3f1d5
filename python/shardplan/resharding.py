"""Native versions of the names in ``torch.distributed.checkpoint.resharding``."""

from __future__ import annotations

from .dcp.twins.resharding import (
    _check_shard_metadata_pair_overlap,
    _shards_get_overlap_region_wrt_saved_tensor,
)

__all__: list[str] = []
