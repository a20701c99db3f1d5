"""stdout and stderr as they are: closed, full, of any encoding."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def prepare() -> bool:
    """Makes the streams take any text; whether stdout is open."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return sys.stdout is not None


def complain(text: str) -> None:
    """Prints on stderr, or nowhere where that cannot be written either."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _abandon(sys.stderr)


def abandon_stdout() -> None:
    """What is left to be written goes nowhere, so that the interpreter's end does not fail."""
    _abandon(sys.stdout)


def _abandon(stream: io.TextIOBase | object) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
