"""The entries of a checkpoint, and how the commands select and describe them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ... import _core
from ..failures import CommandError
from .dtypes import element_size

# Numbers of ten or more digits are not ranks.
_RANK = re.compile(r"(?:.*/)?__([0-9]{1,9})_[0-9]+\.")


@dataclass(frozen=True)
class Entry:
    """An entry of a checkpoint.

    Attributes:
        at: index in the metadata.
        name: key of the entry.
        kind: "tensor", "object", or "unknown" for an unsupported type.
        dtype: name of the dtype; empty if unknown.
        shape: shape of the tensor.
        chunks: number of saved chunks.
        stored: bytes in files.
        sharding: description of the sharding.
    """

    at: int
    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    chunks: int
    stored: int
    sharding: str

    @property
    def elements(self) -> int:
        return prod(self.shape) if self.kind == "tensor" else 0

    @property
    def bytes(self) -> int:
        """Bytes of the tensor; bytes in files if the size of its dtype is unknown."""
        size = element_size(self.dtype)
        return self.stored if size is None or self.kind != "tensor" else self.elements * size

    def as_data(self) -> dict[str, Any]:
        """Returns the entry as it appears in ``--json``."""
        return {
            "name": self.name,
            "kind": self.kind,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "bytes": self.bytes,
            "stored_bytes": self.stored,
            "chunks": self.chunks,
            "sharding": self.sharding,
        }


def entries_of(checkpoint: _core.Checkpoint) -> list[Entry]:
    """Returns all entries in the order of the metadata file."""
    stored = checkpoint.stored_bytes()
    return [
        Entry(at, name, kind, dtype, tuple(shape), chunks, stored[at], sharding_text(*arranged))
        for at, ((name, kind, dtype, shape, chunks), arranged) in enumerate(
            zip(checkpoint.entries(), checkpoint.arrangements(), strict=True)
        )
    ]


def matching(entries: Sequence[Entry], wanted: str, checkpoint: str) -> list[Entry]:
    """Returns the entry with a name or, if there is none, the entries that match it as a glob.

    Args:
        entries: all entries.
        wanted: a name or a glob.
        checkpoint: name of the checkpoint, for the error message.

    Raises:
        CommandError: no entry matches.
    """
    named = [entry for entry in entries if entry.name == wanted]
    found = named or [entry for entry in entries if fnmatch.fnmatchcase(entry.name, wanted)]
    if found:
        return found
    import difflib

    similar = difflib.get_close_matches(wanted, [each.name for each in entries][:100_000], n=3)
    suggestion = f"; similar: {', '.join(similar)}" if similar else ""
    raise CommandError(f"{checkpoint} has no entry {wanted!r}{suggestion}")


def sharding_text(kind: str, parts: Sequence[int], even: bool) -> str:
    """Formats an arrangement of boxes: ``dim 0 in 1,024``, ``grid 16 x 8``."""
    uneven = "" if even else ", uneven"
    if kind == "1-D":
        dim = next(dim for dim, count in enumerate(parts) if count > 1)
        return f"dim {dim} in {parts[dim]:,}{uneven}"
    if kind == "grid":
        return f"grid {' x '.join(map(str, parts))}{uneven}"
    return {"none": "empty"}.get(kind, kind)


def rank_of_file(name: str) -> int | None:
    """Returns the rank in the name of a DCP data file; None if there is none."""
    match = _RANK.match(name)
    return int(match[1]) if match else None


def ranks_of(files: Iterable[str | None]) -> list[int | None]:
    """Returns the rank in the name of each data file; None if there is none."""
    return [None if name is None else rank_of_file(name) for name in files]


def owners_of(files: Sequence[str | None]) -> tuple[list[Any], str]:
    """Returns the owners of the boxes in these files, and "rank" or "file".

    The owners are ranks if all file names contain one, and file names otherwise.
    """
    ranks = ranks_of(files)
    if all(rank is not None for rank in ranks):
        return ranks, "rank"
    return [name or "nowhere" for name in files], "file"


def spread(numbers: Iterable[int]) -> dict[str, Any]:
    """Returns the count, minimum, mean and maximum of numbers."""
    all_of_them = list(numbers)
    if not all_of_them:
        return {"count": 0, "least": 0, "mean": 0, "most": 0}
    return {
        "count": len(all_of_them),
        "least": min(all_of_them),
        "mean": sum(all_of_them) / len(all_of_them),
        "most": max(all_of_them),
    }
