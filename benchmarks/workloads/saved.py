"""Upstream metadata, as it is once every rank of a world has saved."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.distributed.checkpoint.metadata import (
    STORAGE_TYPES,
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.placement_types import Placement

from .parallel import Box, LocalBoxes, Parallelism, Parameter, state_dict
from .world import collector_paused


def saved_metadata(parameters: Mapping[str, Parameter], parallelism: Parallelism) -> Metadata:
    """The metadata of all ranks' chunks, replicas once; as when read, no object is shared."""
    ranks = [LocalBoxes(parallelism.mesh_of(rank)) for rank in range(parallelism.ranks)]
    known: dict[tuple[tuple[int, ...], tuple[Placement, ...]], list[Box]] = {}
    saved: dict[str, STORAGE_TYPES] = {}
    with collector_paused():
        for name, parameter in parameters.items():
            key = (parameter.shape, parallelism.placements(parameter))
            if key not in known:
                # A chunk is known by its offsets: what replicas hold is saved by one of them.
                chosen = {offsets: sizes for sizes, offsets in (rank.box(*key) for rank in ranks)}
                known[key] = [(sizes, offsets) for offsets, sizes in chosen.items()]
            saved[name] = TensorStorageMetadata(
                TensorProperties(dtype=torch.float32),
                torch.Size(parameter.shape),
                [
                    ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))
                    for sizes, offsets in known[key]
                ],
            )
    return Metadata(saved)


def reshard(
    parameters: Mapping[str, Parameter], saved: Parallelism, wanted: Parallelism
) -> tuple[dict[str, DTensor], Metadata]:
    """What the open world's rank loads under ``wanted``, and the metadata saved under ``saved``.

    1,024 to 768 is ``fsdp(1024)`` to ``fsdp(768)``; 2-D to 1-D is ``fsdp_tp(128, 8)`` to
    ``fsdp(1024)``.
    """
    return state_dict(parameters, wanted), saved_metadata(parameters, saved)
