"""What people see: colour and tables on a terminal, plain lines elsewhere, progress on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .failures import INSTALL

_PATIENCE = 1.0  # seconds before a progress bar is shown


def rich_or_none() -> Any:
    """The library that draws on terminals, where it is installed."""
    try:
        import rich.console
        import rich.markup
        import rich.progress
        import rich.table
    except ImportError:
        return None
    return rich


def printable(text: str) -> str:
    """A text without the codes that would move a terminal's cursor; names come from files."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class Terminal:
    """Where a command writes."""

    def __init__(self) -> None:
        self._console: Any = None
        if sys.stdout.isatty():
            rich = rich_or_none()
            if rich is None:
                print(f"for colour and tables:  {INSTALL}", file=sys.stderr)
            else:
                self._console = rich.console.Console(highlight=False)

    def line(self, text: str = "", style: str = "") -> None:
        """One line, or several."""
        text = "\n".join(map(printable, text.split("\n")))
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
            self.line(f"  and {left:,} more")

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and what they are."""
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.line(f"{name:<{width}}  {value}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under a head; columns of numbers end alike."""
        rows = [[printable(cell) for cell in row] for row in rows]
        right = [
            all(not row[at] or row[at][:1].isdigit() for row in rows) for at in range(len(head))
        ]
        if self._console is not None:
            rich = rich_or_none()
            table = rich.table.Table(box=rich.box.SIMPLE_HEAD if hasattr(rich, "box") else None)
            for name, is_right in zip(head, right, strict=True):
                table.add_column(name, justify="right" if is_right else "left", overflow="fold")
            for row in rows:
                table.add_row(*(rich.markup.escape(cell) for cell in row))
            self._console.print(table)
            return
        widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
        for row in [head, *rows]:
            cells = [
                cell.rjust(width) if is_right else cell.ljust(width)
                for cell, width, is_right in zip(row, widths, right, strict=True)
            ]
            print("  ".join(cells).rstrip())


def print_json(data: Any) -> None:
    """What ``--json`` prints."""
    json.dump(data, sys.stdout, indent=2)
    print()


def _bar(rich: Any, *columns: Any) -> Any:
    """A bar on stderr that goes when it is done; not started."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
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
    bar.add_task(what, total=None)
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
            self._task = self._bar.add_task(self._what, total=self._total)
            self._bar.start()
        self._bar.update(self._task, completed=self._done)
