"""Robust use of stdout and stderr, which may be closed, full, or of any encoding."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def prepare() -> bool:
    """Makes stdout and stderr accept any text. Returns whether stdout is open."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return sys.stdout is not None


def print_error(text: str) -> None:
    """Prints to stderr; drops the text if stderr cannot be written."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _abandon(sys.stderr)


def abandon_stdout() -> None:
    """Redirects stdout to the null device, so that the flush at interpreter exit does not fail."""
    _abandon(sys.stdout)


def _abandon(stream: io.TextIOBase | object) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
