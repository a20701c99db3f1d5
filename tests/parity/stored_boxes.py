"""Checkpoints with chosen boxes, layouts and bytes, and reads of chosen boxes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, ReadItem

from shardplan.filesystem import FileSystemReader as OurReader

Box = tuple[Sequence[int], Sequence[int]]
"""Offsets and sizes."""


def saved(tensor: torch.Tensor) -> bytes:
    """The part that ``torch.save`` writes for a tensor."""
    stream = io.BytesIO()
    torch.save(tensor, stream)
    return stream.getvalue()


class StoredBoxes:
    """A directory with parts, of which each holds a box of a tensor."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata = Metadata({}, storage_data={})

    def add(
        self, fqn: str, part: bytes, offsets: Sequence[int] = (), file: str = "__0_0.distcp"
    ) -> MetadataIndex:
        """Appends a part to a file. It is the box of ``fqn`` that begins at ``offsets``."""
        with (self.path / file).open("ab") as stream:
            begin = stream.tell()
            stream.write(part)
        count = sum(index.fqn == fqn for index in self.metadata.storage_data)
        index = MetadataIndex(fqn, torch.Size(offsets), count)
        self.metadata.storage_data[index] = _StorageInfo(file, begin, len(part))
        return index

    def describe(self, fqn: str, shape: Sequence[int], boxes: Sequence[Box]) -> None:
        """Adds the metadata of a tensor, for planners."""
        self.metadata.state_dict_metadata[fqn] = TensorStorageMetadata(
            TensorProperties(),
            torch.Size(shape),
            [ChunkStorageMetadata(torch.Size(at), torch.Size(size)) for at, size in boxes],
        )


def item_of(index: MetadataIndex, sizes: Sequence[int], offsets: Sequence[int] = ()) -> ReadItem:
    """Reads a box of a part into the whole of the target with the same name."""
    ndim = len(sizes)
    return ReadItem(
        LoadItemType.TENSOR,
        MetadataIndex(index.fqn, torch.Size([0] * ndim), 0),
        torch.Size([0] * ndim),
        index,
        torch.Size(offsets or [0] * ndim),
        torch.Size(sizes),
    )


def read(
    reader: FileSystemReader,
    stored: StoredBoxes,
    items: list[ReadItem],
    targets: dict[str, Any],
    planner: DefaultLoadPlanner | None = None,
) -> None:
    """Calls ``read_data`` with these items."""
    planner = planner or DefaultLoadPlanner()
    planner.set_up_planner(targets, stored.metadata, True)
    reader.set_up_storage_reader(stored.metadata, True)
    reader.read_data(LoadPlan(items), planner).wait()


def bits(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor's elements in row-major order."""
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().flatten()
    return bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""


class Read:
    """What a reader made of the targets, or the exception that it raised."""

    def __init__(
        self,
        reader: Callable[[Path], FileSystemReader],
        stored: StoredBoxes,
        items: list[ReadItem],
        make_targets: Callable[[], dict[str, Any]],
    ) -> None:
        self.targets = make_targets()
        self.error: Exception | None = None
        try:
            read(reader(stored.path), stored, items, self.targets)
        except Exception as error:
            self.error = error

    def outcome(self) -> Any:
        if self.error is not None:
            return type(self.error), str(self.error)
        return {name: bits(tensor) for name, tensor in self.targets.items()}


def outcomes(
    stored: StoredBoxes, items: list[ReadItem], make_targets: Callable[[], dict[str, Any]]
) -> tuple[Any, Any]:
    """Returns what ours and upstream's readers give."""
    ours = Read(OurReader, stored, items, make_targets)
    upstream = Read(FileSystemReader, stored, items, make_targets)
    return ours.outcome(), upstream.outcome()
