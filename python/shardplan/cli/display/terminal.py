"""What people see: colour and tables on a terminal, plain lines elsewhere, progress on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ..failures import INSTALL, CommandError
from .wording import number_text, printable

COLORS = ("auto", "always", "never")
_PATIENCE = 1.0  # seconds before a progress bar is shown


def rich_or_none() -> Any:
    """The library that draws on terminals, where it is installed."""
    try:
        import rich.console
        import rich.progress
        import rich.table
        import rich.text
    except ImportError:
        return None
    return rich


class Terminal:
    """Where a command writes.

    color: one of ``COLORS``
    """

    def __init__(self, color: str = "auto") -> None:
        self._console: Any = None
        if not sys.stdout.isatty() and color != "always":
            return
        rich = rich_or_none()
        if rich is not None:
            self._console = rich.console.Console(highlight=False, emoji=False, **_colors(color))
            self._console.on_broken_pipe = _raise_again
        elif color == "always":
            raise CommandError(f"--color always needs rich:  {INSTALL}")
        else:
            print(f"for colour and tables:  {INSTALL}", file=sys.stderr)

    def line(self, text: str = "", style: str = "") -> None:
        """One line, whatever is in the text."""
        text = printable(text)
        if self._console is None:
            print(text)
        else:
            self._console.print(text, style=style or None, markup=False, soft_wrap=True)

    def good(self, text: str) -> None:
        self.line(text, "bold green")

    def bad(self, text: str) -> None:
        self.line(text, "bold red")

    def heading(self, text: str) -> None:
        self.line()
        self.line(text, "bold")

    def more(self, left: int) -> None:
        """How many were not shown, if any."""
        if left > 0:
            self.line(f"  and {number_text(left)} more")

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and what they are."""
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.line(f"{name:<{width}}  {value}")

    def table(
        self, head: Sequence[str], rows: Sequence[Sequence[str]], plain: bool = False
    ) -> None:
        """Rows under a head; columns of numbers end alike.

        plain: as lines on a terminal too, none of which is folded
        """
        rows = [[printable(cell) for cell in row] for row in rows]
        right = [
            all(not row[at] or row[at][:1].isdigit() for row in rows) for at in range(len(head))
        ]
        if self._console is not None and not plain:
            rich = rich_or_none()
            table = rich.table.Table(box=rich.box.SIMPLE_HEAD if hasattr(rich, "box") else None)
            for name, is_right in zip(head, right, strict=True):
                table.add_column(name, justify="right" if is_right else "left", overflow="fold")
            for row in rows:
                table.add_row(*(rich.text.Text(cell) for cell in row))
            self._console.print(table)
            return
        widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
        for row in [head, *rows]:
            cells = [
                cell.rjust(width) if is_right else cell.ljust(width)
                for cell, width, is_right in zip(row, widths, right, strict=True)
            ]
            print("  ".join(cells).rstrip())


def _colors(color: str) -> dict[str, Any]:
    """How rich is told of a choice."""
    if color == "always":
        return {"force_terminal": True, "color_system": "standard", "no_color": False}
    if color == "never" or os.environ.get("NO_COLOR"):
        return {"color_system": None}
    return {}


def _raise_again() -> None:
    """For a pipe that nobody reads: rich would end the process with status 1."""
    raise


def print_json(data: Any) -> None:
    """What ``--json`` prints."""
    json.dump(data, sys.stdout, indent=2)
    print()


def _bar(rich: Any, *columns: Any) -> Any:
    """A bar on stderr that goes when it is done; not started."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        *columns,
        console=rich.console.Console(stderr=True),
        transient=True,
    )


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """A bar of no known length around one long call, once it has taken a second."""
    rich = rich_or_none() if sys.stderr.isatty() else None
    if rich is None:
        yield
        return
    bar = _bar(rich, rich.progress.TimeElapsedColumn())
    bar.add_task(printable(what), total=None)
    later = threading.Timer(_PATIENCE, bar.start)
    later.daemon = True
    later.start()
    try:
        yield
    finally:
        later.cancel()
        later.join()
        bar.stop()


class Progress:
    """A bar of bytes on stderr, where that is a terminal, once the work has taken a second."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._done = 0
        self._began = time.monotonic()
        self._bar: Any = None
        self._rich: Any = rich_or_none() if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int) -> None:
        self._done += count
        if self._rich is None:
            return
        if self._bar is None:
            if time.monotonic() - self._began < _PATIENCE:
                return
            parts = self._rich.progress
            self._bar = _bar(self._rich, parts.DownloadColumn(), parts.TimeRemainingColumn())
            self._task = self._bar.add_task(printable(self._what), total=self._total)
            self._bar.start()
        self._bar.update(self._task, completed=self._done)
