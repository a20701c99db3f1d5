"""Upstream metadata after a save on every rank of a world."""

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
    """Metadata of all ranks' chunks, without replicas; no object is shared, as after reading."""
    ranks = [LocalBoxes(parallelism.mesh_of(rank)) for rank in range(parallelism.ranks)]
    known: dict[tuple[tuple[int, ...], tuple[Placement, ...]], list[Box]] = {}
    saved: dict[str, STORAGE_TYPES] = {}
    with collector_paused():
        for name, parameter in parameters.items():
            key = (parameter.shape, parallelism.placements(parameter))
            if key not in known:
                # Replicas have the same offsets; only one of them is saved.
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
    """What this rank loads under ``wanted``, and the metadata saved under ``saved``.

    1,024 to 768 is ``fsdp(1024)`` to ``fsdp(768)``; 2-D to 1-D is ``fsdp_tp(128, 8)`` to
    ``fsdp(1024)``.
    """
    return state_dict(parameters, wanted), saved_metadata(parameters, saved)
