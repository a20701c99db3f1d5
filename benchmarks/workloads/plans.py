"""The plans of every rank of a world, as upstream objects, without a world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import (
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)

from .moe import MoeConfig, moe
from .parallel import LocalBoxes, Parallelism, Parameter, fsdp, with_adam
from .world import collector_paused


@dataclass(frozen=True)
class Part:
    """Parameters of which a rank holds a shard, and its rank on their mesh."""

    parameters: Mapping[str, Parameter]
    parallelism: Parallelism
    rank: int


def upstream_plan(parts: list[Part]) -> SavePlan:
    """Returns what ``DefaultSavePlanner.create_local_plan`` returns for a rank's DTensors."""
    items = []
    for part in parts:
        boxes = LocalBoxes(part.parallelism.mesh_of(part.rank))
        for name, parameter in part.parameters.items():
            sizes, offsets = boxes.box(parameter.shape, part.parallelism.placements(parameter))
            start = torch.Size(offsets)
            data = TensorWriteData(
                ChunkStorageMetadata(start, torch.Size(sizes)),
                TensorProperties(dtype=torch.float32),
                torch.Size(parameter.shape),
            )
            index = MetadataIndex(name, start)
            items.append(WriteItem(index, WriteItemType.SHARD, tensor_data=data))
    return SavePlan(items, planner_data={item.index.fqn: (item.index.fqn,) for item in items})


def every_rank(parameters: Mapping[str, Parameter], parallelism: Parallelism) -> Iterator[SavePlan]:
    """Yields the local plan of each rank."""
    for rank in range(parallelism.ranks):
        with collector_paused():
            yield upstream_plan([Part(parameters, parallelism, rank)])


def every_rank_of_moe(config: MoeConfig, shards: int, expert_parallel: int) -> Iterator[SavePlan]:
    """The same for a mixture of experts on ``shards * expert_parallel`` ranks.

    A rank has only the experts of its group, sharded over the group. All other parameters are
    sharded over all ranks.
    """
    per_group = config.experts // expert_parallel
    for rank in range(shards * expert_parallel):
        first = rank % expert_parallel * per_group
        held = with_adam(moe(config, range(first, first + per_group)))
        experts = {name: entry for name, entry in held.items() if ".experts." in name}
        rest = {name: entry for name, entry in held.items() if name not in experts}
        with collector_paused():
            yield upstream_plan(
                [
                    Part(rest, fsdp(shards * expert_parallel), rank),
                    Part(experts, fsdp(shards), rank // expert_parallel),
                ]
            )
