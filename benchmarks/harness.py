"""Times shardplan and upstream in turn, and compares the times."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from .agreement import expect, same

Call = Callable[[], Any]

ROUNDS = 7
UPSTREAM_SECONDS = 4.0


@dataclass(frozen=True)
class Timing:
    """The least of several times, in seconds a call."""

    seconds: float
    rounds: int


@dataclass(frozen=True)
class Speedup:
    """A row: how many times faster shardplan is than upstream, in the same run."""

    work: str
    counted: str
    ours: Timing
    upstream: Timing
    target: float | None

    @property
    def ratio(self) -> float:
        return self.upstream.seconds / self.ours.seconds

    @property
    def passed(self) -> bool | None:
        return None if self.target is None else self.ratio >= self.target

    def cells(self) -> tuple[str, ...]:
        target = "" if self.target is None else f">= {self.target:,.0f}x"
        return (
            self.work,
            show_seconds(self.upstream.seconds) + (" (once)" if self.upstream.rounds == 1 else ""),
            show_seconds(self.ours.seconds),
            f"{show_ratio(self.ratio)}x",
            target,
            show_verdict(self.passed),
            self.counted,
        )


@dataclass(frozen=True)
class Growth:
    """A row: how many times longer shardplan takes for a larger input."""

    work: str
    counted: str
    less: Timing
    more: Timing
    target: float

    @property
    def ratio(self) -> float:
        return self.more.seconds / self.less.seconds

    @property
    def passed(self) -> bool:
        return self.ratio <= self.target

    def cells(self) -> tuple[str, ...]:
        return (
            self.work,
            "",
            f"{show_seconds(self.less.seconds)} -> {show_seconds(self.more.seconds)}",
            f"{show_ratio(self.ratio)}x the time",
            f"<= {self.target:,.0f}x",
            show_verdict(self.passed),
            self.counted,
        )


class Row(Protocol):
    """A row of a table: a dataclass that formats its cells."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def work(self) -> str: ...

    @property
    def ratio(self) -> float: ...

    @property
    def passed(self) -> bool | None: ...

    def cells(self) -> tuple[str, ...]: ...


HEADINGS = ("work", "upstream", "ours", "ratio", "target", "", "counted")


def timed(call: Call, loops: int = 1) -> tuple[float, Any]:
    """Returns seconds a call, with the collector on, and the last result, freed after timing."""
    if not gc.isenabled():
        raise RuntimeError("the collector is off, but it is on for users")
    started = time.perf_counter()
    for _ in range(loops):
        result = call()
    return (time.perf_counter() - started) / loops, result


def alternate(
    calls: tuple[Call, ...],
    rounds: int = ROUNDS,
    loops: tuple[int, ...] | None = None,
    budgets: tuple[float, ...] | None = None,
    before: tuple[tuple[float, ...], ...] | None = None,
) -> tuple[Timing, ...]:
    """Times the calls in turn, ``rounds`` times, and keeps the least time of each.

    loops: number of calls for one time, for calls shorter than the resolution of the clock
    budgets: seconds after which a call is not repeated
    before: earlier times to include
    """
    times = [list(taken) for taken in before] if before else [[] for _ in calls]
    spent = [sum(taken) for taken in times]
    for _ in range(rounds):
        gc.collect()
        for at, call in enumerate(calls):
            if budgets is not None and times[at] and spent[at] > budgets[at]:
                continue
            repeated = loops[at] if loops else 1
            seconds, result = timed(call, repeated)
            del result
            times[at].append(seconds)
            spent[at] += seconds * repeated
    return tuple(Timing(min(taken), len(taken)) for taken in times)


def race(
    ours: Call,
    upstream: Call,
    rounds: int = ROUNDS,
    loops: tuple[int, int] = (1, 1),
    upstream_seconds: float = UPSTREAM_SECONDS,
) -> tuple[Timing, Timing]:
    """Times shardplan and upstream, after checking that they give exactly the same result."""
    our_time, upstream_time = race_all((ours,), upstream, rounds, loops, upstream_seconds)
    return our_time, upstream_time


def race_all(
    ours: tuple[Call, ...],
    upstream: Call,
    rounds: int = ROUNDS,
    loops: tuple[int, ...] | None = None,
    upstream_seconds: float = UPSTREAM_SECONDS,
) -> tuple[Timing, ...]:
    """Times each of shardplan's calls, then upstream, after checking that all results are the same.

    Upstream's call for the check is timed too: if it takes long, it is the only one.
    """
    seconds, result = timed(upstream)
    for call in ours:
        expect(same(call(), result), "the results differ")
    del result
    return alternate(
        (*ours, upstream),
        rounds,
        loops,
        budgets=(*(math.inf for _ in ours), upstream_seconds),
        before=(*(() for _ in ours), (seconds,)),
    )


def show_seconds(seconds: float) -> str:
    """Formats seconds with a suitable unit and three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def show_ratio(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}"


def show_verdict(passed: bool | None) -> str:
    return {None: "", True: "pass", False: "MISS"}[passed]


def show_table(rows: list[Row]) -> str:
    """Formats the rows under their headings, as a Markdown table."""
    table = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(HEADINGS))]
    lines = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
