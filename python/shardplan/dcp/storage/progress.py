"""Progress of a load or a save: a bar on a terminal, or calls of a caller's function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ...diagnosis.units import bytes_text

Progress = Callable[[int, int], object]
"""Called with the number of bytes read or written so far, and of all of them."""

_WIDTH = 30
_SHOWN_AFTER = 1.0


class Bar:
    """Draws a bar on stderr, from one second after its construction on.

    Args:
        label: what is in progress.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._began = time.monotonic()
        self._shown = False

    def __call__(self, done: int, wanted: int) -> None:
        taken = time.monotonic() - self._began
        if not self._shown and (taken < _SHOWN_AFTER or done >= wanted):
            return
        self._shown = True
        filled = _WIDTH * done // max(wanted, 1)
        end = "\n" if done >= wanted else ""
        amount = f"{bytes_text(done)} of {bytes_text(wanted)}, {bytes_text(done / taken)}/s"
        print(
            f"\r{self._label} [{'#' * filled:<{_WIDTH}}] {amount}  ",
            end=end,
            file=sys.stderr,
            flush=True,
        )


def progress_of(progress: bool | Progress, label: str) -> Progress | None:
    """Returns what to call.

    Args:
        progress: a function; or whether to draw a bar if stderr is a terminal.
        label: what is in progress.
    """
    if callable(progress):
        return progress
    return Bar(label) if progress and sys.stderr.isatty() else None
