"""What the demo prints: a line while it works, what it checked, and the table of stages."""

from __future__ import annotations

import statistics
import sys
import time

from .stages import STAGES, Times


class Progress:
    """One line that says what is being done, and for how long."""

    def __init__(self) -> None:
        self._on_terminal = sys.stdout.isatty()
        self._text = ""
        self._start = self._shown = time.monotonic()

    def say(self, text: str) -> None:
        """Starts another piece of work."""
        self._text = text
        self._start = self._shown = time.monotonic()
        self._show(text)

    def tick(self) -> None:
        """Shows that it still goes on; to be called often."""
        now = time.monotonic()
        if now - self._shown >= (1 if self._on_terminal else 5):
            self._shown = now
            self._show(f"{self._text} ... {now - self._start:.0f} s")

    def note(self, line: str) -> None:
        """Prints a line that stays."""
        self._clear()
        print(line, flush=True)

    def _show(self, line: str) -> None:
        if self._on_terminal:
            self._clear()
            print(line, end="", flush=True)
        else:
            print(line, flush=True)

    def _clear(self) -> None:
        if self._on_terminal:
            print("\r\033[K", end="")


def print_table(jobs: dict[str, dict[str, Times]]) -> None:
    """The median time of each stage of each job, upstream's beside ours."""
    rows = [("stage", "upstream", "ours", "ratio")]
    for job, by_planner in jobs.items():
        rows.append((job, "", "", ""))
        for stage in STAGES:
            if stage not in by_planner["upstream"]:
                continue
            upstream, ours = (
                statistics.median(by_planner[who][stage]) for who in ("upstream", "ours")
            )
            rows.append((f"  {stage}", _time(upstream), _time(ours), f"{upstream / ours:.1f}x"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for number, (stage, *figures) in enumerate(rows):
        if number and not stage.startswith(" "):
            print()
        cells = [stage.ljust(widths[0])]
        cells += [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def join_times(all_times: list[Times]) -> Times:
    """The times of several ranks as one."""
    joined: Times = {}
    for times in all_times:
        for stage, seconds in times.items():
            joined.setdefault(stage, []).extend(seconds)
    return joined
