"""Compares tensors bit for bit, and checkpoints file by file."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.tensor import DTensor


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in nested dicts and lists, with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}/{key}")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from leaves(item, f"{path}/{position}")
    else:
        yield path, value


def full_values(state: dict[str, Any]) -> dict[str, Any]:
    """Every value by its path, sharded tensors gathered. All ranks have to call it."""
    return {
        path: value.full_tensor() if isinstance(value, DTensor) else value
        for path, value in leaves(state)
    }


def spoil(state: dict[str, Any]) -> None:
    """Overwrites every tensor, so that one which a load leaves alone is seen."""
    for _, value in leaves(state):
        if isinstance(value, torch.Tensor):
            local = value.to_local() if isinstance(value, DTensor) else value
            local.detach().copy_(torch.full_like(local, 93))


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What differs between two results of ``full_values``, bit for bit."""
    wrong = [f"{path}: only in one" for path in sorted(expected.keys() ^ found.keys())]
    for path in expected.keys() & found.keys():
        if not _same(expected[path], found[path]):
            wrong.append(f"{path}: {_brief(expected[path])} was saved, {_brief(found[path])} found")
    return wrong


def _same(a: Any, b: Any) -> bool:
    if not isinstance(a, torch.Tensor):
        return type(a) is type(b) and bool(a == b)
    if not isinstance(b, torch.Tensor) or a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(_bits(a), _bits(b))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    # As bytes, so that -0.0 differs from 0.0 and a NaN equals itself.
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _brief(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        start = value.detach().reshape(-1)[:3].tolist()
        return f"{value.dtype} of {tuple(value.shape)} starting {start}"
    return repr(value)


def checkpoint_differences(upstream: Path, ours: Path) -> list[str]:
    """What differs between two checkpoints of the same state: data byte for byte, and .metadata."""
    wrong = []
    names = [sorted(path.name for path in folder.iterdir()) for folder in (upstream, ours)]
    if names[0] != names[1]:
        wrong.append(f"files: {names[0]} and {names[1]}")
    for name in names[0]:
        if name != ".metadata" and (upstream / name).read_bytes() != (ours / name).read_bytes():
            wrong.append(f"{name} differs")
    wrong += _metadata_differences(_metadata(upstream), _metadata(ours))
    only_in_one = _imports(upstream / ".metadata") ^ _imports(ours / ".metadata")
    if only_in_one:
        wrong.append(f".metadata does not import the same: {sorted(only_in_one)}")
    return wrong


def _metadata(folder: Path) -> Metadata:
    metadata: Metadata = FileSystemReader(folder).read_metadata()
    assert metadata.storage_meta is not None
    # Where and when it was saved differs by nature.
    metadata.storage_meta = dataclasses.replace(
        metadata.storage_meta, checkpoint_id=None, save_id=None, load_id=None
    )
    return metadata


def _metadata_differences(upstream: Metadata, ours: Metadata) -> list[str]:
    wrong = []
    for field in dataclasses.fields(Metadata):
        a, b = getattr(upstream, field.name), getattr(ours, field.name)
        if a != b:
            wrong.append(f".metadata differs in {field.name}")
        elif isinstance(a, dict) and list(a) != list(b):
            wrong.append(f".metadata has another order in {field.name}")
    return wrong


class _Recorder(pickle.Unpickler):
    """Notes what a pickle imports."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.imported: set[str] = set()

    def find_class(self, module: str, name: str, /) -> Any:
        self.imported.add(f"{module}.{name}")
        return super().find_class(module, name)


def _imports(path: Path) -> set[str]:
    with path.open("rb") as file:
        recorder = _Recorder(file)
        recorder.load()
    return recorder.imported
