"""Functions that create every kind of object in a state dict, by name."""

from __future__ import annotations

import collections
import dataclasses
import io
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from parity.worlds import dtensor_of, mesh_of, sharded_tensor_of


class TaggedTensor(torch.Tensor):
    """A tensor subclass without changes."""


class SelfWritten:
    """An object that creates its own write items and chunks."""

    def __create_write_items__(self, fqn: str, object: Any) -> list[WriteItem]:
        return [self._item(fqn, part) for part in range(2)]

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [self._chunk(part) for part in range(2)]

    @staticmethod
    def _chunk(part: int) -> ChunkStorageMetadata:
        return ChunkStorageMetadata(offsets=torch.Size([2 * part]), sizes=torch.Size([2]))

    def _item(self, fqn: str, part: int) -> WriteItem:
        return WriteItem(
            index=MetadataIndex(fqn, [2 * part]),
            type=WriteItemType.SHARD,
            tensor_data=TensorWriteData(
                chunk=self._chunk(part), properties=TensorProperties(), size=torch.Size([4])
            ),
        )


class SelfWrittenTensor(torch.Tensor, SelfWritten):
    """A tensor that creates its own write items and chunks."""


class BrokenProtocol:
    """An object whose protocol methods raise."""

    def __create_write_items__(self, fqn: str, object: Any) -> list[WriteItem]:
        raise KeyError(f"no items for {fqn}")

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        raise KeyError("no chunks")


def _transposed() -> torch.Tensor:
    return torch.arange(12.0).reshape(3, 4).t()


def _expanded() -> torch.Tensor:
    return torch.zeros(1).expand(5, 3)


def _marked_tensor() -> torch.Tensor:
    """A plain tensor whose protocol methods are set on the instance."""
    tensor = torch.zeros(4)
    tensor.__create_write_items__ = SelfWritten().__create_write_items__  # type: ignore[attr-defined]
    tensor.__create_chunk_list__ = SelfWritten().__create_chunk_list__  # type: ignore[attr-defined]
    return tensor


TENSORS: dict[str, Callable[[], Any]] = {
    "matrix": lambda: torch.zeros(3, 4),
    "0-d": lambda: torch.tensor(1.5),
    "0-d integer": lambda: torch.tensor(7),
    "zero-size": lambda: torch.zeros(0, 3),
    "zero-size inside": lambda: torch.zeros(2, 0, 3),
    "requires grad": lambda: torch.zeros(2, requires_grad=True),
    "not a leaf": lambda: torch.zeros(2, requires_grad=True) * 2,
    "parameter": lambda: torch.nn.Parameter(torch.zeros(2, 2)),
    "frozen parameter": lambda: torch.nn.Parameter(torch.zeros(2, 2), requires_grad=False),
    "buffer": lambda: torch.nn.Buffer(torch.zeros(2)),
    "transposed": _transposed,
    "expanded": _expanded,
    "channels last": lambda: torch.zeros(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse csr": lambda: torch.eye(3).to_sparse_csr(),
    "meta": lambda: torch.zeros(3, 2, device="meta"),
    "meta 0-d": lambda: torch.zeros((), device="meta"),
    "half": lambda: torch.zeros(3, dtype=torch.float16),
    "bfloat16": lambda: torch.zeros(3, dtype=torch.bfloat16),
    "float8": lambda: torch.zeros(3, dtype=torch.float8_e4m3fn),
    "bool": lambda: torch.zeros(3, dtype=torch.bool),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8),
    "nine dims": lambda: torch.zeros(1, 2, 1, 2, 1, 2, 1, 2, 1),
    "subclass": lambda: torch.zeros(3).as_subclass(TaggedTensor),
    "marked tensor": _marked_tensor,
    "self-written tensor": lambda: torch.zeros(4).as_subclass(SelfWrittenTensor),
}

OBJECTS: dict[str, Callable[[], Any]] = {
    "int": lambda: 3,
    "huge int": lambda: 2**80,
    "float": lambda: 0.5,
    "str": lambda: "text",
    "bytes": lambda: b"bytes",
    "none": lambda: None,
    "true": lambda: True,
    "list": lambda: [1, 2],
    "empty dict": dict,
    "tuple": lambda: (1, "a"),
    "ordered dict": lambda: collections.OrderedDict(a=1),
    "bytes io": lambda: io.BytesIO(b"bytes"),
    "set": lambda: {1, 2},
    "broken: class of self-written": lambda: SelfWritten,
    "module": lambda: torch.nn.Linear(1, 1),
    "size": lambda: torch.Size([1, 2]),
    "object": object,
    "self-written": SelfWritten,
    "broken protocol": BrokenProtocol,
}


def _dtensor_with_protocol() -> DTensor:
    dtensor = dtensor_of((4,), mesh_of((6,)), [Shard(0)])
    dtensor._local_tensor = torch.zeros(4).as_subclass(SelfWrittenTensor)
    return dtensor


class TaggedDTensor(DTensor):
    """A DTensor subclass without changes."""


def _dtensor_subclass() -> DTensor:
    plain = dtensor_of((5, 3), mesh_of((6,)), [Shard(0)])
    return TaggedDTensor(plain._local_tensor, plain._spec, requires_grad=False)


DTENSORS: dict[str, Callable[[], Any]] = {
    "shard": lambda: dtensor_of((12, 3), mesh_of((6,)), [Shard(0)]),
    "shard uneven": lambda: dtensor_of((10, 3), mesh_of((6,)), [Shard(0)]),
    "shard fewer rows than ranks": lambda: dtensor_of((2, 3), mesh_of((6,)), [Shard(0)]),
    "shard of nothing": lambda: dtensor_of((0, 3), mesh_of((6,)), [Shard(0)]),
    "shard last dim": lambda: dtensor_of((3, 13), mesh_of((6,)), [Shard(1)]),
    "shard negative dim": lambda: dtensor_of((3, 13), mesh_of((6,)), [Shard(-1)]),
    "replicate": lambda: dtensor_of((4, 3), mesh_of((6,)), [Replicate()]),
    "replicate 0-d": lambda: dtensor_of((), mesh_of((6,)), [Replicate()]),
    "requires grad": lambda: dtensor_of((6,), mesh_of((6,)), [Shard(0)], requires_grad=True),
    "meta": lambda: dtensor_of((6,), mesh_of((6,)), [Shard(0)], device="meta"),
    "int64": lambda: dtensor_of((7,), mesh_of((6,)), [Shard(0)], dtype=torch.int64),
    "two dims": lambda: dtensor_of((7, 5), mesh_of((2, 3)), [Shard(0), Shard(1)]),
    "two dims crossed": lambda: dtensor_of((7, 5), mesh_of((2, 3)), [Shard(1), Shard(0)]),
    "one dim twice": lambda: dtensor_of((11,), mesh_of((2, 3)), [Shard(0), Shard(0)]),
    "hsdp": lambda: dtensor_of((7, 5), mesh_of((2, 3)), [Replicate(), Shard(0)]),
    "strided": lambda: dtensor_of(
        (13, 2), mesh_of((2, 3)), [_StridedShard(0, split_factor=3), Shard(0)]
    ),
    "strided only": lambda: dtensor_of((13,), mesh_of((6,)), [_StridedShard(0, split_factor=4)]),
    "strided twice": lambda: dtensor_of(
        (29,), mesh_of((2, 3)), [_StridedShard(0, split_factor=3), _StridedShard(0, split_factor=2)]
    ),
    "partial": lambda: dtensor_of((4,), mesh_of((6,)), [Partial()]),
    "partial and shard": lambda: dtensor_of((4, 4), mesh_of((2, 3)), [Partial(), Shard(1)]),
    "sub-mesh": lambda: dtensor_of((7, 2), mesh_of((2, 2), [0, 2, 5, 1]), [Shard(0), Shard(0)]),
    "sub-mesh of one": lambda: dtensor_of((7, 2), mesh_of((1,), [4]), [Shard(0)]),
    "partial on a sub-mesh": lambda: dtensor_of((4,), mesh_of((2,), [1, 4]), [Partial()]),
    "local tensor with a protocol": _dtensor_with_protocol,
    "subclass": _dtensor_subclass,
}

SHARDED_TENSORS: dict[str, Callable[[], Any]] = {
    "one shard a rank": lambda: sharded_tensor_of(
        (12, 2), [((2 * rank, 0), (2, 2), rank) for rank in range(6)]
    ),
    "several shards a rank": lambda: sharded_tensor_of(
        (12,), [((part,), (1,), part % 3) for part in range(12)]
    ),
    "all on one rank": lambda: sharded_tensor_of(
        (4, 4), [((0, 0), (4, 1), 2), ((0, 1), (4, 3), 2)], dtype=torch.float16
    ),
    "zero-size shards": lambda: sharded_tensor_of(
        (3,), [((min(rank, 3),), (1 if rank < 3 else 0,), rank) for rank in range(6)]
    ),
}
WORLD_SIZE = 6
EVERYTHING = {
    f"{kind} {name}": make
    for kind, makers in (
        ("Tensor", TENSORS),
        ("object", OBJECTS),
        ("DTensor", DTENSORS),
        ("ShardedTensor", SHARDED_TENSORS),
    )
    for name, make in makers.items()
}
# Upstream raises for these.
RAISING = {name for name in EVERYTHING if "broken" in name or "partial" in name}
if any(field.name == "strides" for field in dataclasses.fields(TensorProperties)):
    RAISING |= {name for name in EVERYTHING if name.endswith("sparse csr")}
