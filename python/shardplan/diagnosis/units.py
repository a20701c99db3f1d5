"""Formats bytes and seconds."""

from __future__ import annotations


def bytes_text(count: float) -> str:
    """Formats bytes with three digits and decimal units: ``1.5 GB``."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} PB"


def seconds_text(seconds: float) -> str:
    """Formats seconds with up to three digits: ``12 ms``, ``3.4 s``."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
