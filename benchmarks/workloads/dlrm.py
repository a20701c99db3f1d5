"""Embedding tables of a DLRM, as row-wise ShardedTensors, which torchrec creates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.distributed as dist
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.metadata import (
    ShardedTensorMetadata,
    TensorProperties,
)
from torch.distributed._shard.sharded_tensor.shard import Shard


def dlrm_state_dict(rows: Sequence[int], embedding_dim: int = 128) -> dict[str, ShardedTensor]:
    """The tables of this rank, one for each number of rows; the last ranks may have none."""
    return {
        f"model.ebc.embedding_bags.t_{table}.weight": _row_wise(table_rows, embedding_dim)
        for table, table_rows in enumerate(rows)
    }


def _row_wise(rows: int, embedding_dim: int) -> ShardedTensor:
    ranks = dist.get_world_size()
    block = -(-rows // ranks)
    starts = [min(rank * block, rows) for rank in range(ranks + 1)]
    shards = [
        ShardMetadata([start, 0], [end - start, embedding_dim], f"rank:{rank}/meta")
        for rank, (start, end) in enumerate(pairwise(starts))
    ]
    own = shards[dist.get_rank()]
    local = torch.empty(own.shard_sizes, device="meta")
    metadata = ShardedTensorMetadata(
        shards_metadata=shards,
        size=torch.Size([rows, embedding_dim]),
        tensor_properties=TensorProperties(dtype=torch.float32),
    )
    return ShardedTensor._init_from_local_shards_and_global_metadata([Shard(local, own)], metadata)
