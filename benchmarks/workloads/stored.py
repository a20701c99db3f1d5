"""Checkpoints on disk that many ranks have saved, written by one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import (
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)

from .boxes import Boxes


class _BoxPlanner(dcp.DefaultSavePlanner):
    """Saves one tensor as many boxes, as the ranks of a mesh together do."""

    def __init__(self, boxes: Boxes) -> None:
        super().__init__(flatten_state_dict=False)
        self._boxes = boxes

    def create_local_plan(self) -> SavePlan:
        ((name, tensor),) = self.state_dict.items()
        properties = TensorProperties.create_from_tensor(tensor)
        self.plan = SavePlan(
            [
                WriteItem(
                    index=MetadataIndex(name, chunk.offsets),
                    type=WriteItemType.SHARD,
                    tensor_data=TensorWriteData(chunk, properties, tensor.size()),
                )
                for chunk in self._boxes.chunks()
            ]
        )
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Any:
        assert write_item.tensor_data is not None
        box = self.state_dict[write_item.index.fqn]
        chunk = write_item.tensor_data.chunk
        for dim, (offset, size) in enumerate(zip(chunk.offsets, chunk.sizes, strict=True)):
            box = box.narrow(dim, offset, size)
        return box.clone()


def save_boxes(folder: Path, name: str, tensor: torch.Tensor, boxes: Boxes) -> None:
    """Saves ``tensor`` under a name as these boxes, all in one file."""
    dcp.save({name: tensor}, checkpoint_id=folder, planner=_BoxPlanner(boxes), no_dist=True)
