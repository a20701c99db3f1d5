"""What differs between elements: how many, by how much, and which are no plain numbers."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..checkpoint.entries import Entry
from ..display.wording import counted

_INTEGER = re.compile(r"u?int(8|16|32|64)")
_COMPLEX = {"complex32": "<f2", "complex64": "<f4", "complex128": "<f8"}


@dataclass
class Compared:
    """What is known of one tensor or object that both checkpoints have.

    nan: of the elements that differ, those that are NaN on either side
    infinite: of the elements that differ, those that are infinite on either side
    largest: the largest difference of those that are neither
    """

    entry: Entry
    compared: int = 0
    differing: int = 0
    nan: int = 0
    infinite: int = 0
    largest: int | float | None = None
    reasons: list[str] = field(default_factory=list)
    damaged: bool = False

    def leave(self, why: str, damaged: bool) -> None:
        self.reasons.append(why)
        self.damaged = self.damaged or damaged

    def as_data(self) -> dict[str, Any]:
        """What ``--json`` says of it."""
        if self.entry.kind != "tensor":
            return {
                "name": self.entry.name,
                "differs": bool(self.differing),
                "not_compared": self._why(),
                "damaged": self.damaged,
            }
        return {
            "name": self.entry.name,
            "elements": self.entry.elements,
            "compared": self.compared,
            "differing": self.differing,
            "nan": self.nan,
            "infinite": self.infinite,
            "largest_difference": self.largest,
            "not_compared": self._why(),
            "damaged": self.damaged,
        }

    def _why(self) -> str | None:
        if not self.reasons:
            return None
        more = len(self.reasons) - 1
        return self.reasons[0] + (f"; and {counted(more, 'more reason')}" if more else "")


def count_differences(found: Compared, a: Any, b: Any) -> None:
    """Counts the elements that differ, given as unsigned numbers."""
    differ = a != b
    wide = found.entry.dtype == "complex128"
    if wide:
        differ = differ.any(axis=-1)
    count = int(np.count_nonzero(differ))
    if count == 0:
        return
    found.differing += count
    dtype = found.entry.dtype
    a, b = a[differ], b[differ]
    if _INTEGER.fullmatch(dtype):
        largest: int | float = _largest_of_integers(a, b, dtype.startswith("u"))
    else:
        with np.errstate(all="ignore"):
            values = _floats(a, dtype), _floats(b, dtype)
            if values[0] is None:
                return
            nan = np.isnan(values[0]) | np.isnan(values[1])
            infinite = ~nan & (np.isinf(values[0]) | np.isinf(values[1]))
            found.nan += int(np.count_nonzero(nan))
            found.infinite += int(np.count_nonzero(infinite))
            plain = ~(nan | infinite)
            if not plain.any():
                return
            # The difference of two finite numbers need not be one.
            most = np.abs(values[0][plain] - values[1][plain]).max()
            largest = min(float(most), sys.float_info.max)
    found.largest = largest if found.largest is None else max(found.largest, largest)


def _largest_of_integers(a: Any, b: Any, unsigned: bool) -> int:
    """Exact: the difference of two signed numbers fits an unsigned one, modulo its size."""
    plain = a.dtype
    if not unsigned:
        signed = plain.str.replace("u", "i")
        a, b = a.view(signed), b.view(signed)
    return int((np.maximum(a, b).view(plain) - np.minimum(a, b).view(plain)).max())


def _floats(bits: Any, dtype: str) -> Any:
    """Unsigned numbers as the floats, or complex ones, that they are; None for other dtypes."""
    if dtype in _COMPLEX:
        parts = bits.view(_COMPLEX[dtype]).astype("f8").reshape(-1, 2)
        return parts.view("c16")[:, 0]
    if dtype == "bfloat16":
        return (bits.astype("<u4") << 16).view("<f4").astype("f8")
    if dtype in ("float16", "float32", "float64"):
        return bits.view(f"<f{bits.itemsize}").astype("f8")
    return None
