"""Merges the metadata files of all ranks of a save with ``use_collectives=False`` into one."""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    Metadata,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

# Values whose comparison and text take no longer than reading them did. Nested containers of a
# hostile file can share their parts, so that comparing them would take exponential time.
_PLAIN = (str, bytes, int, float, bool, type(None))


class MergeError(ValueError):
    """The metadata of ranks cannot be merged.

    Args:
        reasons: why, one line for each entry.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def merge(by_rank: Mapping[int, Metadata]) -> Metadata:
    """Merges the metadata of ranks into what a save with collectives would have written.

    The chunks of a tensor are those of all ranks, in the order of ranks. A part that several ranks
    have saved is that of the lowest of them. No argument is changed.

    Args:
        by_rank: the metadata of each rank.

    Raises:
        MergeError: metadata of a rank has a value that no writer of this format writes; an
            entry differs between ranks in kind, size or properties, or has different boxes
            at the same offsets; or the ranks differ in version or planner data.
    """
    ranks = sorted(by_rank)
    reasons = [
        f"the metadata of rank {rank} has {what}, which cannot be merged"
        for rank in ranks
        for what in _unusual(by_rank[rank])
    ]
    if reasons:
        raise MergeError(reasons)
    entries = _Entries()
    for rank in ranks:
        for name, saved in by_rank[rank].state_dict_metadata.items():
            entries.add(rank, name, saved)
    reasons = entries.reasons
    storage: dict[Any, Any] = {}
    for rank in ranks:
        for key, place in by_rank[rank].storage_data.items():
            index = entries.position(key.fqn, key.offset)
            storage.setdefault(dataclasses.replace(key, index=index), place)
    versions = {rank: getattr(by_rank[rank], "version", None) for rank in ranks}
    other = next((rank for rank in ranks if versions[rank] != versions[ranks[0]]), None)
    if other is not None:
        reasons.append(
            f"the version is {versions[ranks[0]]!r} on rank {ranks[0]} and {versions[other]!r} on "
            f"rank {other}"
        )
    planner_data = _planner_data({rank: by_rank[rank].planner_data for rank in ranks}, reasons)
    if reasons:
        raise MergeError(reasons)
    merged = Metadata(entries.merged(), planner_data=planner_data, storage_data=storage)
    merged.storage_meta = getattr(by_rank[ranks[0]], "storage_meta", None)
    merged.version = versions[ranks[0]]
    return merged


def _unusual(metadata: Metadata) -> list[str]:
    """Returns what no writer of this format writes, in words."""
    found = []
    if not isinstance(metadata.planner_data, (dict, type(None))):
        found.append(f"planner data of type {type(metadata.planner_data).__name__}")
    elif not all(map(_is_path, (metadata.planner_data or {}).values())):
        found.append("planner data other than the paths of entries")
    if not isinstance(getattr(metadata, "version", None), _PLAIN):
        found.append("an unusual version")
    meta = getattr(metadata, "storage_meta", None)
    if meta is not None and not (
        type(meta) is StorageMeta
        and all(isinstance(value, PurePath) or _is_path(value) for value in vars(meta).values())
    ):
        found.append("unusual storage_meta")
    if not all(
        _is_path(tuple(getattr(place, "transform_descriptors", None) or ()))
        for place in metadata.storage_data.values()
    ):
        found.append("unusual transform_descriptors")
    for name, saved in metadata.state_dict_metadata.items():
        if isinstance(saved, TensorStorageMetadata) and not _are_plain(saved.properties):
            found.append(f"unusual properties of {name}")
    return found


def _is_path(value: Any) -> bool:
    """Returns whether a value is plain, or a sequence of plain values such as the path of a key."""
    return isinstance(value, _PLAIN) or (
        type(value) in (tuple, list) and all(isinstance(each, _PLAIN) for each in value)
    )


def _are_plain(properties: TensorProperties) -> bool:
    types = (*_PLAIN, torch.dtype, torch.layout, torch.memory_format)
    return all(isinstance(value, types) for value in vars(properties).values())


class _Entries:
    """Collects the entries of all ranks, and how they differ."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self._first: dict[str, tuple[int, Any]] = {}
        self._chunks: dict[str, list[Any]] = {}
        # By the name of the entry and by offsets: position of the chunk, its sizes and its rank.
        self._positions: dict[str, dict[Any, tuple[int, Any, int]]] = {}
        self._differing: set[str] = set()

    def add(self, rank: int, name: str, saved: Any) -> None:
        """Adds the entry of a rank."""
        first_rank, first = self._first.setdefault(name, (rank, saved))
        if why := _difference(first, saved):
            self._differ(name, f"{why[0]} on rank {first_rank} and {why[1]} on rank {rank}")
        elif isinstance(saved, TensorStorageMetadata):
            chunks = self._chunks.setdefault(name, [])
            positions = self._positions.setdefault(name, {})
            for chunk in saved.chunks:
                offsets = tuple(chunk.offsets)
                held = positions.setdefault(offsets, (len(chunks), chunk.sizes, rank))
                if held[0] == len(chunks):
                    chunks.append(chunk)
                elif held[1] != chunk.sizes:
                    self._differ(
                        name,
                        f"its box at {list(offsets)} has the size {list(held[1])} on rank "
                        f"{held[2]} and {list(chunk.sizes)} on rank {rank}",
                    )

    def _differ(self, name: str, how: str) -> None:
        if name not in self._differing:
            self._differing.add(name)
            self.reasons.append(f"{name} differs between ranks: {how}")

    def position(self, name: str, offsets: Any) -> int | None:
        """Returns the position of the chunk at these offsets; None if there is none."""
        held = None if offsets is None else self._positions.get(name, {}).get(tuple(offsets))
        return None if held is None else held[0]

    def merged(self) -> dict[str, Any]:
        """Returns all entries, with the chunks of all ranks."""
        return {
            name: dataclasses.replace(saved, chunks=self._chunks[name])
            if name in self._chunks
            else saved
            for name, (_, saved) in self._first.items()
        }


def _difference(one: Any, other: Any) -> tuple[str, str] | None:
    """Returns how two entries of one name differ, in words for each; None if they may be merged."""
    if type(one) is not type(other):
        return _kind(one), _kind(other)
    if not isinstance(one, TensorStorageMetadata):
        return None
    if one.size != other.size:
        return f"size {list(one.size)}", f"size {list(other.size)}"
    if one.properties != other.properties:
        return str(one.properties), str(other.properties)
    return None


def _kind(saved: Any) -> str:
    return "a tensor" if isinstance(saved, TensorStorageMetadata) else "an object"


def _planner_data(by_rank: dict[int, Any], reasons: list[str]) -> Any:
    """Merges planner data as ``DefaultSavePlanner`` does: one dict, in which the first rank wins.

    Appends to ``reasons`` if the ranks map a name differently, or if only some have planner data.
    """
    ranks = list(by_rank)
    without = [rank for rank in ranks if by_rank[rank] is None]
    if without:
        if len(without) < len(ranks):
            other = next(rank for rank in ranks if rank not in without)
            reasons.append(f"rank {other} has planner data, and rank {without[0]} has none")
        return None
    owners: dict[Any, int] = {}
    for rank in ranks:
        for name, path in by_rank[rank].items():
            owner = owners.setdefault(name, rank)
            if by_rank[owner][name] != path:
                reasons.append(
                    f"{name} differs between ranks: the planner's path is {by_rank[owner][name]!r} "
                    f"on rank {owner} and {path!r} on rank {rank}"
                )
    return dict(ChainMap(*(by_rank[rank] for rank in ranks)))
