"""Text output: colours and tables on a terminal, plain lines elsewhere, progress on stderr."""

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
_PROGRESS_DELAY = 1.0  # seconds before a progress bar is shown


def rich_or_none() -> Any:
    """Returns the module ``rich``, or None if it is not installed."""
    try:
        import rich.console
        import rich.progress
        import rich.table
        import rich.text
    except ImportError:
        return None
    return rich


class Terminal:
    """The text output of a command.

    Args:
        color: one of ``COLORS``.

    Raises:
        CommandError: ``color`` is "always" and ``rich`` is not installed.
    """

    def __init__(self, color: str = "auto") -> None:
        self._console: Any = None
        if not sys.stdout.isatty() and color != "always":
            return
        rich = rich_or_none()
        if rich is not None:
            self._console = rich.console.Console(highlight=False, emoji=False, **_colors(color))
            self._console.on_broken_pipe = _reraise
        elif color == "always":
            raise CommandError(f"--color always needs rich:  {INSTALL}")
        else:
            print(f"colour and tables need rich:  {INSTALL}", file=sys.stderr)

    def line(self, text: str = "", style: str = "") -> None:
        """Prints one line; escapes characters that are not printable."""
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
        """Prints the number of rows that were not shown, if any."""
        if left > 0:
            self.line(f"  and {number_text(left)} more")

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Prints names and values in two columns."""
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.line(f"{name:<{width}}  {value}")

    def table(
        self, head: Sequence[str], rows: Sequence[Sequence[str]], plain: bool = False
    ) -> None:
        """Prints a table. Columns of numbers are right-aligned.

        Args:
            head: the column titles.
            rows: the cells of each row.
            plain: if true, prints unwrapped lines on a terminal, too.
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
    """Returns the arguments of a rich console for a choice of ``--color``."""
    if color == "always":
        return {"force_terminal": True, "color_system": "standard", "no_color": False}
    if color == "never" or os.environ.get("NO_COLOR"):
        return {"color_system": None}
    return {}


def _reraise() -> None:
    """Re-raises a broken pipe error; rich would exit with status 1."""
    raise


def print_json(data: Any) -> None:
    """Prints data as JSON."""
    json.dump(data, sys.stdout, indent=2)
    print()


def _bar(rich: Any, *columns: Any) -> Any:
    """Returns a progress bar on stderr that disappears when done. It is not started."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        *columns,
        console=rich.console.Console(stderr=True),
        transient=True,
    )


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Context manager that shows an indeterminate progress bar after one second.

    Args:
        what: a description of the work.
    """
    rich = rich_or_none() if sys.stderr.isatty() else None
    if rich is None:
        yield
        return
    bar = _bar(rich, rich.progress.TimeElapsedColumn())
    bar.add_task(printable(what), total=None)
    later = threading.Timer(_PROGRESS_DELAY, bar.start)
    later.daemon = True
    later.start()
    try:
        yield
    finally:
        later.cancel()
        later.join()
        bar.stop()


class Progress:
    """A progress bar of bytes. It is shown on stderr after one second, if that is a terminal.

    Args:
        what: a description of the work.
        total: total bytes.
    """

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
            if time.monotonic() - self._began < _PROGRESS_DELAY:
                return
            parts = self._rich.progress
            self._bar = _bar(self._rich, parts.DownloadColumn(), parts.TimeRemainingColumn())
            self._task = self._bar.add_task(printable(self._what), total=self._total)
            self._bar.start()
        self._bar.update(self._task, completed=self._done)
