"""Element sizes of torch dtypes by name, without importing torch."""

from __future__ import annotations

import re

_SIZES = {
    "bool": 1,
    "bfloat16": 2,
    "complex32": 4,
    "bcomplex32": 4,
    "complex64": 8,
    "complex128": 16,
    "quint8": 1,
    "qint8": 1,
    "qint32": 4,
    "quint4x2": 1,
    "quint2x4": 1,
    "bits8": 1,
    "bits16": 2,
    "bits1x8": 1,
    "bits2x4": 1,
    "bits4x2": 1,
}
_BITS = re.compile(r"u?int([0-9]{1,3})|float([0-9]{1,3})(_\w+)?")
NAMES = "float32, float16, bfloat16, float64, float8_e4m3fn, int64, int32, int8, uint8, bool, ..."


def element_size(dtype: str) -> int | None:
    """Returns the bytes per element of a dtype; None if unknown or not a whole number of bytes."""
    if dtype in _SIZES:
        return _SIZES[dtype]
    match = _BITS.fullmatch(dtype)
    bits = int(match[1] or match[2]) if match else 0
    if dtype == "float4_e2m1fn_x2":
        return 1
    return bits // 8 if bits in (8, 16, 32, 64) else None
