"""Comparisons of checkpoints on disk and of tensors, bit for bit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata

Tensors = dict[str, torch.Tensor]


def copied(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compares bits: NaN equals itself, and 0.0 is not -0.0."""
    same_kind = one.dtype == other.dtype and one.size() == other.size()
    return same_kind and torch.equal(_bits(one), _bits(other))


def tensor_differences(tensors: Tensors, expected: Tensors) -> list[str]:
    """Returns the names of the tensors that differ, or that only one of the two has."""
    common = tensors.keys() & expected.keys()
    differing = {name for name in common if not _equal(tensors[name], expected[name])}
    return sorted(differing | (tensors.keys() ^ expected.keys()))


def unchanged(tensors: Tensors, before: Tensors) -> list[str]:
    """Returns the names of the tensors, other than empty ones, that are as they were."""
    filled = {name for name, tensor in before.items() if tensor.numel()}
    return sorted(filled - set(tensor_differences(tensors, before)))


def files_of(folder: Path) -> dict[str, Path]:
    return {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}


def _metadata(file: Path) -> Metadata:
    metadata: Metadata = pickle.loads(file.read_bytes())
    metadata.storage_meta = None  # it has the folder, and an id of the save
    return metadata


def _same_metadata(one: Path, other: Path, results_ordered: bool) -> bool:
    """Compares all attributes, also those that a caller has added, like plans."""
    ours, theirs = vars(_metadata(one)), vars(_metadata(other))
    ordered = ["state_dict_metadata", *(["storage_data"] if results_ordered else [])]
    return ours == theirs and all(list(ours[name]) == list(theirs[name]) for name in ordered)


def _safetensors(file: Path) -> tuple[dict[str, Any], bytes]:
    """Returns the header of a safetensors file, whose keys are in any order, and what follows."""
    contents = file.read_bytes()
    end = 8 + int.from_bytes(contents[:8], "little")
    return json.loads(contents[8:end]), contents[end:]


def _same_file(one: Path, other: Path, results_ordered: bool) -> bool:
    if one.name == ".metadata":
        return _same_metadata(one, other, results_ordered)
    if one.read_bytes() == other.read_bytes():
        return True
    return one.suffix == ".safetensors" and _safetensors(one) == _safetensors(other)


def file_differences(folder: Path, expected: Path, results_ordered: bool = True) -> list[str]:
    """Returns the names of the files that differ, or that only one of two checkpoints has.

    ``.metadata`` is compared as the object that torch unpickles from it, in the order of its keys;
    that of ``storage_data`` counts only if ``results_ordered``.
    The keys in the header of a safetensors file have no order: its writer shuffles them.
    """
    ours, theirs = files_of(folder), files_of(expected)
    differing = ours.keys() ^ theirs.keys()
    for name in ours.keys() & theirs.keys():
        if not _same_file(ours[name], theirs[name], results_ordered):
            differing.add(name)
    return sorted(differing)


def count_entries(folder: Path) -> int:
    """Returns the number of entries in all checkpoints in a folder."""
    count = 0
    tensors: set[str] = set()
    for file in files_of(folder).values():
        if file.name == ".metadata":
            count += len(_metadata(file).state_dict_metadata)
        elif file.suffix == ".safetensors":
            tensors |= _safetensors(file)[0].keys() - {"__metadata__"}
    return count + len(tensors)
