"""What every rank has written, as upstream objects, with no storage open."""

from __future__ import annotations

from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.storage import WriteResult

from .world import collector_paused


def write_results(plan: SavePlan, rank: int) -> list[WriteResult]:
    """What ``FileSystemWriter.write_data`` gives a rank that has written all of its plan."""
    results = []
    at, path = 0, f"__{rank}_0.distcp"
    with collector_paused():
        for item in plan.items:
            assert item.tensor_data is not None
            length = item.tensor_data.chunk.sizes.numel() * 4 + 1_196
            # Of a global plan's item the index says which chunk of the tensor it is.
            index = MetadataIndex(item.index.fqn, item.index.offset, rank)
            results.append(WriteResult(index, length, _StorageInfo(path, at, length)))
            at += length
    return results
