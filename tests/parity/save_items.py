"""Upstream write items: plain items, and unusual items that columns may not hold."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import (
    BytesIOWriteData,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)

from parity.boxes import size


def index_of(name: Any, offset: Any = None, chunk_index: Any = None) -> MetadataIndex:
    """Returns an index with exactly these objects."""
    index = MetadataIndex(name, None, chunk_index)
    if offset is not None:
        object.__setattr__(index, "offset", offset)
    return index


def bytes_item(name: Any, **changes: Any) -> WriteItem:
    return dataclasses.replace(WriteItem(index_of(name), WriteItemType.BYTE_IO), **changes)


def tensor_item(
    name: Any,
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    offsets: Sequence[int] | None = None,
    sizes: Sequence[int] | None = None,
    chunk_index: Any = None,
) -> WriteItem:
    """Returns an item for a complete tensor, or for a shard if offsets are given."""
    start = [0] * len(shape) if offsets is None else offsets
    return WriteItem(
        index=index_of(name, size(start), chunk_index),
        type=WriteItemType.TENSOR if offsets is None else WriteItemType.SHARD,
        tensor_data=TensorWriteData(
            chunk=ChunkStorageMetadata(size(start), size(shape if sizes is None else sizes)),
            properties=TensorProperties(dtype=dtype),
            size=size(shape),
        ),
    )


def shard_item(name: Any = "w", part: int = 0) -> WriteItem:
    """Returns an item for two of eight rows."""
    return tensor_item(name, (8, 3), offsets=(2 * part, 0), sizes=(2, 3))


class TaggedItem(WriteItem):
    """A subclass without changes."""


class SelfSized(WriteItem):
    """An item that computes its own size."""

    def tensor_storage_size(self) -> int | None:
        return 10**6


class Unsized(WriteItem):
    """A tensor whose item has size zero."""

    def tensor_storage_size(self) -> int | None:
        return None


def seven() -> int:
    return 7


class Name(str):
    """A name of another class."""


class TaggedIndex(MetadataIndex):
    """An index of another class."""


class TaggedProperties(TensorProperties):
    """Properties of another class."""


class TaggedChunk(ChunkStorageMetadata):
    """A chunk of another class."""


class Uncopyable(WriteItem):
    """An item that ``dataclasses.replace`` cannot copy."""

    def __init__(self, item: WriteItem) -> None:
        for name, value in vars(item).items():
            object.__setattr__(self, name, value)


def of_class(cls: type[WriteItem], item: WriteItem) -> WriteItem:
    return cls(**vars(item))


def with_attribute(item: WriteItem, path: str, value: Any) -> WriteItem:
    """Returns the item after setting one attribute in it."""
    *parents, name = path.split(".")
    owner = functools.reduce(getattr, parents, item)
    object.__setattr__(owner, name, value)
    return item


def _set(path: str, value: Any) -> Callable[[], WriteItem]:
    return lambda: with_attribute(shard_item("w", 1), path, value)


def _many_dims(ndim: int) -> WriteItem:
    return tensor_item("w", (1,) * ndim, offsets=(0,) * ndim, sizes=(1,) * ndim)


def _as_properties(item: WriteItem) -> TaggedProperties:
    assert item.tensor_data is not None
    return TaggedProperties(**vars(item.tensor_data.properties))


PROPERTIES = "tensor_data.properties"
CHUNK = "tensor_data.chunk"

# Items that travel as objects, but are planned natively with the other items of the plan.
READABLE: dict[str, Callable[[], WriteItem]] = {
    "subclass": lambda: of_class(TaggedItem, shard_item("w", 1)),
    "own size": lambda: of_class(SelfSized, shard_item("w", 1)),
    "no size": lambda: of_class(Unsized, shard_item("w", 1)),
    "own size by attribute": _set("tensor_storage_size", seven),
    "attribute of the item": _set("tag", 1),
    "attribute of the data": _set("tensor_data.tag", 1),
    "attribute of the properties": _set(f"{PROPERTIES}.tag", 1),
    "properties subclass": lambda: with_attribute(
        shard_item("w", 1), PROPERTIES, _as_properties(shard_item())
    ),
    "bytes and tensor": _set("bytes_io_data", BytesIOWriteData(5)),
    "bytes with bytes_io_data": lambda: bytes_item("w", bytes_io_data=BytesIOWriteData(5)),
    "bytes with a chunk index": lambda: bytes_item("w", index=index_of("w", None, 4)),
    "bytes with tensor data": lambda: bytes_item("w", tensor_data=shard_item().tensor_data),
}

# Properties that columns hold, or that travel as objects, of types that tensors do not have.
UNUSUAL_PROPERTIES: dict[str, Callable[[], WriteItem]] = {
    "requires_grad a number": _set(f"{PROPERTIES}.requires_grad", 1),
    "requires_grad a text": _set(f"{PROPERTIES}.requires_grad", "yes"),
    "requires_grad a float": _set(f"{PROPERTIES}.requires_grad", 0.5),
    "requires_grad huge": _set(f"{PROPERTIES}.requires_grad", 2**70),
    "pin_memory none": _set(f"{PROPERTIES}.pin_memory", None),
    "pin_memory a tuple": _set(f"{PROPERTIES}.pin_memory", (1, 2)),
    "pin_memory bools": _set(f"{PROPERTIES}.pin_memory", (True, 2)),
    "layout a text": _set(f"{PROPERTIES}.layout", "strided"),
    "layout sparse": _set(f"{PROPERTIES}.layout", torch.sparse_coo),
    "channels last": _set(f"{PROPERTIES}.memory_format", torch.channels_last),
    "preserve format": _set(f"{PROPERTIES}.memory_format", torch.preserve_format),
}

# Items whose plans fall back to upstream's code.
OPAQUE: dict[str, Callable[[], WriteItem]] = {
    "index subclass": lambda: dataclasses.replace(
        shard_item("w", 1), index=TaggedIndex("w", (2, 0))
    ),
    "attribute of the index": _set("index.tag", 1),
    "attribute of the chunk": _set(f"{CHUNK}.tag", 1),
    "chunk subclass": _set(CHUNK, TaggedChunk(torch.Size((2, 0)), torch.Size((2, 3)))),
    "offset elsewhere": _set("index.offset", torch.Size((4, 0))),
    "no offset": lambda: dataclasses.replace(shard_item("w", 1), index=index_of("w")),
    "offset a tuple": _set("index.offset", (2, 0)),
    "offset a list": _set("index.offset", [2, 0]),
    "chunk of tuples": _set(f"{CHUNK}.sizes", (2, 3)),
    "size a list": _set("tensor_data.size", [8, 3]),
    "bools in sizes": _set(f"{CHUNK}.sizes", torch.Size((True, 3))),
    "bools in the size": _set("tensor_data.size", torch.Size((True, 3))),
    "more dims than the tensor": _set("tensor_data.size", torch.Size((24,))),
    "65 dims": lambda: _many_dims(65),
    "negative chunk index": _set("index.index", -1),
    "chunk index a bool": _set("index.index", True),
    "chunk index huge": _set("index.index", 2**70),
    "chunk index a text": _set("index.index", "first"),
    "name of a subclass": lambda: shard_item(Name("w"), 1),
    "name a number": lambda: shard_item(3),
    "name none": lambda: shard_item(None),
    "name a list": lambda: shard_item(["w"]),
    "bytes with an offset": lambda: bytes_item("w", index=index_of("w", torch.Size((1,)))),
    "type a text": _set("type", "SHARD"),
    "type none": _set("type", None),
    "no tensor data": _set("tensor_data", None),
    "no chunk": _set(CHUNK, None),
    "properties none": _set(PROPERTIES, None),
    "size none": _set("tensor_data.size", None),
    "size beyond int64": _set("tensor_data.size", (2**70, 3)),
}

# Items just within the limits of columns.
EXTREME: dict[str, Callable[[], WriteItem]] = {
    "64 dims": lambda: _many_dims(64),
    "chunk index": _set("index.index", 7),
    "largest chunk index": _set("index.index", 2**63 - 1),
    "lone surrogate": lambda: shard_item("w\ud800"),
    "long name": lambda: shard_item("w." * 1000),
    "no name": lambda: shard_item(""),
    "zeros in a name": lambda: shard_item("w\0w"),
    "more bytes than int64": lambda: tensor_item("w", (2**62, 2**62)),
    "as many bytes as int64": lambda: tensor_item("w", (2**61 - 1,)),
    "negative size": lambda: tensor_item("w", (-3, 4)),
    "largest offset": lambda: tensor_item("w", (4,), offsets=(2**63 - 1,), sizes=(2**63 - 1,)),
    "smallest offset": lambda: tensor_item("w", (-(2**63),), offsets=(-(2**63),), sizes=(0,)),
}

UNUSUAL_ITEMS = {**READABLE, **UNUSUAL_PROPERTIES, **OPAQUE, **EXTREME}
