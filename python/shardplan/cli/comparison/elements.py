"""Counts differing elements and measures the largest difference."""

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
    """The result of comparing one tensor or object.

    Attributes:
        entry: the entry in one of the checkpoints.
        compared: number of compared elements.
        differing: number of differing elements.
        nan: number of differing elements that are NaN on either side.
        infinite: number of differing elements that are infinite on either side.
        largest: largest difference of the other differing elements.
        reasons: why some elements were not compared.
        damaged: whether one of the reasons is damage.
    """

    entry: Entry
    compared: int = 0
    differing: int = 0
    nan: int = 0
    infinite: int = 0
    largest: int | float | None = None
    reasons: list[str] = field(default_factory=list)
    damaged: bool = False

    def add_reason(self, why: str, damaged: bool) -> None:
        """Adds a reason why elements were not compared."""
        self.reasons.append(why)
        self.damaged = self.damaged or damaged

    def as_data(self) -> dict[str, Any]:
        """Returns the result as it appears in ``--json``."""
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
    """Counts differing elements.

    Args:
        found: the result to update.
        a: elements as an array of unsigned integers.
        b: the elements to compare with, in the same form.
    """
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
        largest: int | float = _largest_integer_difference(a, b, dtype.startswith("u"))
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
            # The difference of two finite numbers may overflow.
            most = np.abs(values[0][plain] - values[1][plain]).max()
            largest = min(float(most), sys.float_info.max)
    found.largest = largest if found.largest is None else max(found.largest, largest)


def _largest_integer_difference(a: Any, b: Any, unsigned: bool) -> int:
    """Returns the largest difference, computed exactly in unsigned modular arithmetic."""
    plain = a.dtype
    if not unsigned:
        signed = plain.str.replace("u", "i")
        a, b = a.view(signed), b.view(signed)
    return int((np.maximum(a, b).view(plain) - np.minimum(a, b).view(plain)).max())


def _floats(bits: Any, dtype: str) -> Any:
    """Reinterprets unsigned integers as floats or complex numbers; None for other dtypes."""
    if dtype in _COMPLEX:
        parts = bits.view(_COMPLEX[dtype]).astype("f8").reshape(-1, 2)
        return parts.view("c16")[:, 0]
    if dtype == "bfloat16":
        return (bits.astype("<u4") << 16).view("<f4").astype("f8")
    if dtype in ("float16", "float32", "float64"):
        return bits.view(f"<f{bits.itemsize}").astype("f8")
    return None
