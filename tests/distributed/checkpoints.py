"""Saves and loads that run on every rank, and comparisons of checkpoints on disk."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata

from pickled import globals_of

from .planning import planning
from .state_dicts import BUILDERS, blank, held

Held = dict[tuple[Any, ...], Any]


def writer(folder: Path, **options: Any) -> dcp.FileSystemWriter:
    return dcp.FileSystemWriter(folder, sync_files=False, **options)


def save_as(layout: str, folders: dict[str, Path], **options: Any) -> tuple[Held, list[Metadata]]:
    """Saves one state dict into each of ``folders``, with the planners of the folder's name."""
    state = BUILDERS[layout]()
    returned = []
    for who, folder in folders.items():
        with planning(who) as planners:
            planner = planners.save(**options)
            returned.append(dcp.save(state, storage_writer=writer(folder), planner=planner))
    return held(state), returned


def load_as(layout: str, folders: list[Path], who: str, **options: Any) -> list[Held]:
    """Loads each checkpoint into a blank state dict, and returns the loaded data of this rank."""
    loaded = []
    for folder in folders:
        state = blank(BUILDERS[layout])
        with planning(who) as planners:
            dcp.load(state, checkpoint_id=folder, planner=planners.load(**options))
        loaded.append(held(state))
    return loaded


def identical(one: Any, other: Any) -> bool:
    """Compares types, values and bits: NaN equals itself, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(identical(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, torch.Tensor):
        same_kind = one.dtype == other.dtype and one.size() == other.size()
        return same_kind and torch.equal(bits(one), bits(other))
    return bool(one == other)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def whole(ranks: list[Held]) -> Held:
    """Merges the data of all ranks: tensors are assembled from their pieces, for any sharding."""
    together: Held = {}
    for path in ranks[0]:
        parts = [rank[path] for rank in ranks]
        if not (isinstance(parts[0], tuple) and len(parts[0]) == 2 and type(parts[0][1]) is list):
            together[path] = parts
            continue
        size = parts[0][0]
        found = [piece for part in parts for piece in part[1]]
        full = torch.zeros(size, dtype=found[0][1].dtype)
        covered = torch.zeros(size, dtype=torch.bool)
        for offsets, piece in found:
            where = tuple(slice(at, at + n) for at, n in zip(offsets, piece.size(), strict=True))
            if piece.numel():
                full[where], covered[where] = piece, True
        assert covered.all(), f"{path} has holes"
        together[path] = full
    return together


def read_metadata(file: Path) -> Metadata:
    metadata: Metadata = pickle.loads(file.read_bytes())
    return without_ids(metadata)


def without_ids(metadata: Metadata) -> Metadata:
    """Removes data that differs between any two saves."""
    metadata.storage_meta = None
    return metadata


def sharing(value: Any, seen: dict[int, int]) -> Iterator[int]:
    """Returns, for each mutable object in order, the position of its first occurrence."""
    if isinstance(value, tuple):
        for part in value:
            yield from sharing(part, seen)
    parts: Any = ()
    if isinstance(value, dict):
        parts = [part for entry in value.items() for part in entry]
    elif isinstance(value, list):
        parts = value
    elif dataclasses.is_dataclass(value):
        parts = list(vars(value).values())
    else:
        return
    known = id(value) in seen
    yield seen.setdefault(id(value), len(seen))
    if not known:
        for part in parts:
            yield from sharing(part, seen)


def assert_same_checkpoint(folder: Path, upstream: Path) -> None:
    """Compares file names, the bytes of data files, and the metadata, including key order."""
    names = sorted(path.name for path in upstream.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == names
    assert any(name.endswith(".metadata") for name in names)
    for name in names:
        if not name.endswith(".metadata"):
            assert (folder / name).read_bytes() == (upstream / name).read_bytes(), name
            continue
        ours, theirs = read_metadata(folder / name), read_metadata(upstream / name)
        assert ours == theirs
        assert list(ours.state_dict_metadata) == list(theirs.state_dict_metadata)
        assert list(ours.storage_data) == list(theirs.storage_data)
        assert [i.index for i in ours.storage_data] == [i.index for i in theirs.storage_data]
        assert list(ours.planner_data or ()) == list(theirs.planner_data or ())
        named, expected = (globals_of((of / name).read_bytes()) for of in (folder, upstream))
        assert named == expected
        # Objects that are shared in one are shared in the other, so that changes have the same
        # effect.
        assert list(sharing(ours, {})) == list(sharing(theirs, {}))
