"""Twins of ``torch.distributed.checkpoint.resharding``."""

from __future__ import annotations

from . import _fit  # noqa: F401

# isort: split
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata

from . import _fallbacks, _stock
from ._native import native

__all__: list[str] = []


def _check_shard_metadata_pair_overlap(
    shard1: ChunkStorageMetadata, shard2: ChunkStorageMetadata
) -> bool:
    """Whether two shards overlap; answers to ``resharding._check_shard_metadata_pair_overlap``."""
    overlap = native.chunks_overlap(shard1, shard2)
    if overlap is not None:
        return overlap
    answer: bool = _stock.check_shard_metadata_pair_overlap(shard1, shard2)
    _fallbacks.entry("overlap of two boxes: a chunk cannot be read")
    return answer


def _shards_get_overlap_region_wrt_saved_tensor(
    saved_shard: ChunkStorageMetadata, current_shard: ChunkStorageMetadata
) -> list[tuple[int, int, int, int]]:
    """Where two shards meet: (dim, offset in saved, offset in current, length) for each dim.

    Answers to ``resharding._shards_get_overlap_region_wrt_saved_tensor``.
    """
    region = native.chunks_meet(saved_shard, current_shard)
    if region is not None:
        return region
    answer: list[tuple[int, int, int, int]]
    answer = _stock.shards_get_overlap_region_wrt_saved_tensor(saved_shard, current_shard)
    _fallbacks.entry("overlap of two boxes: a chunk cannot be read")
    return answer
