"""The entries of a checkpoint as the commands talk of them."""

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

# Ranks of ten digits and more are nobody's: such a name says no rank.
_RANK = re.compile(r"(?:.*/)?__([0-9]{1,9})_[0-9]+\.")


@dataclass(frozen=True)
class Entry:
    """A key of a checkpoint.

    kind: tensor, object, or unknown: something that DCP's metadata does not usually hold
    stored: bytes that it takes in files
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
        """Of the tensor itself; those in files where its dtype's size is not known."""
        size = element_size(self.dtype)
        return self.stored if size is None or self.kind != "tensor" else self.elements * size

    def as_data(self) -> dict[str, Any]:
        """What ``--json`` says of it."""
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
    """Every entry, in the order of the file."""
    stored = checkpoint.stored()
    return [
        Entry(at, name, kind, dtype, tuple(shape), chunks, stored[at], sharding_text(*arranged))
        for at, ((name, kind, dtype, shape, chunks), arranged) in enumerate(
            zip(checkpoint.entries(), checkpoint.arrangements(), strict=True)
        )
    ]


def matching(entries: Sequence[Entry], wanted: str, checkpoint: str) -> list[Entry]:
    """The entries of a name or, if none has it, of a glob. ``CommandError`` if there is none."""
    named = [entry for entry in entries if entry.name == wanted]
    found = named or [entry for entry in entries if fnmatch.fnmatchcase(entry.name, wanted)]
    if found:
        return found
    import difflib

    near = difflib.get_close_matches(wanted, [each.name for each in entries][:100_000], n=3)
    hint = f"; near: {', '.join(near)}" if near else ""
    raise CommandError(f"{checkpoint} has no entry {wanted!r}{hint}")


def sharding_text(kind: str, parts: Sequence[int], even: bool) -> str:
    """``dim 0 in 1,024``, ``grid 16 x 8``."""
    uneven = "" if even else ", uneven"
    if kind == "1-D":
        dim = next(dim for dim, count in enumerate(parts) if count > 1)
        return f"dim {dim} in {parts[dim]:,}{uneven}"
    if kind == "grid":
        return f"grid {' x '.join(map(str, parts))}{uneven}"
    return {"none": "empty"}.get(kind, kind)


def rank_of_file(name: str) -> int | None:
    """The rank that wrote a data file, by DCP's names for them."""
    match = _RANK.match(name)
    return int(match[1]) if match else None


def ranks_of(files: Iterable[str | None]) -> list[int | None]:
    """The rank that wrote each data file, where its name says so."""
    return [None if name is None else rank_of_file(name) for name in files]


def owners_of(files: Sequence[str | None]) -> tuple[list[Any], str]:
    """Who has the boxes in these files, and what that is: their ranks, else their files."""
    ranks = ranks_of(files)
    if all(rank is not None for rank in ranks):
        return ranks, "rank"
    return [name or "nowhere" for name in files], "file"


def spread(numbers: Iterable[int]) -> dict[str, Any]:
    """How a number is spread: least, mean, most."""
    all_of_them = list(numbers)
    if not all_of_them:
        return {"count": 0, "least": 0, "mean": 0, "most": 0}
    return {
        "count": len(all_of_them),
        "least": min(all_of_them),
        "mean": sum(all_of_them) / len(all_of_them),
        "most": max(all_of_them),
    }
