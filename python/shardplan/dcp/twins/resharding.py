"""Twins of ``torch.distributed.checkpoint.resharding``."""

from __future__ import annotations

from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

from .. import fallbacks
from ..native import native
from ..upstream import originals
from .table import twin_of

__all__: list[str] = []

_UNREADABLE = "overlap of two boxes: a chunk cannot be read"


@twin_of(originals.check_shard_metadata_pair_overlap)
def _check_shard_metadata_pair_overlap(
    shard1: ChunkStorageMetadata, shard2: ChunkStorageMetadata
) -> bool:
    """Returns whether two shards overlap.

    Twin of ``resharding._check_shard_metadata_pair_overlap``.
    """
    return fallbacks.or_upstream(
        native.chunks_overlap(shard1, shard2),
        _UNREADABLE,
        originals.check_shard_metadata_pair_overlap,
        shard1,
        shard2,
    )


@twin_of(originals.shards_get_overlap_region_wrt_saved_tensor)
def _shards_get_overlap_region_wrt_saved_tensor(
    saved_shard: ChunkStorageMetadata, current_shard: ChunkStorageMetadata
) -> list[tuple[int, int, int, int]]:
    """Returns the overlap of two shards.

    Twin of ``resharding._shards_get_overlap_region_wrt_saved_tensor``.

    Returns:
        For each dim: (dim, offset in ``saved_shard``, offset in ``current_shard``, length), in
        elements.
    """
    return fallbacks.or_upstream(
        native.overlap_of_chunks(saved_shard, current_shard),
        _UNREADABLE,
        originals.shards_get_overlap_region_wrt_saved_tensor,
        saved_shard,
        current_shard,
    )
