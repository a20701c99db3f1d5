"""The write results of every rank, as upstream objects, without storage."""

from __future__ import annotations

from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.storage import WriteResult

from .world import collector_paused


def write_results(plan: SavePlan, rank: int) -> list[WriteResult]:
    """Returns the result of ``FileSystemWriter.write_data`` for a rank with this plan."""
    results = []
    at, path = 0, f"__{rank}_0.distcp"
    with collector_paused():
        for item in plan.items:
            assert item.tensor_data is not None
            length = item.tensor_data.chunk.sizes.numel() * 4 + 1_196
            # The index of a global plan's item holds the chunk's index in the tensor.
            index = MetadataIndex(item.index.fqn, item.index.offset, rank)
            results.append(WriteResult(index, length, _StorageInfo(path, at, length)))
            at += length
    return results
