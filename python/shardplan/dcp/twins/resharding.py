"""Twins of ``torch.distributed.checkpoint.resharding``."""

from __future__ import annotations

from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

from .. import fallbacks
from ..native import native
from ..upstream import originals
from .table import answers

__all__: list[str] = []

_UNREADABLE = "overlap of two boxes: a chunk cannot be read"


@answers(originals.check_shard_metadata_pair_overlap)
def _check_shard_metadata_pair_overlap(
    shard1: ChunkStorageMetadata, shard2: ChunkStorageMetadata
) -> bool:
    """Whether two shards overlap; answers to ``resharding._check_shard_metadata_pair_overlap``."""
    return fallbacks.or_upstream(
        native.chunks_overlap(shard1, shard2),
        _UNREADABLE,
        originals.check_shard_metadata_pair_overlap,
        shard1,
        shard2,
    )


@answers(originals.shards_get_overlap_region_wrt_saved_tensor)
def _shards_get_overlap_region_wrt_saved_tensor(
    saved_shard: ChunkStorageMetadata, current_shard: ChunkStorageMetadata
) -> list[tuple[int, int, int, int]]:
    """Where two shards meet: (dim, offset in saved, offset in current, length) for each dim.

    Answers to ``resharding._shards_get_overlap_region_wrt_saved_tensor``.
    """
    return fallbacks.or_upstream(
        native.chunks_meet(saved_shard, current_shard),
        _UNREADABLE,
        originals.shards_get_overlap_region_wrt_saved_tensor,
        saved_shard,
        current_shard,
    )
