"""Rows that do not compare two times: sizes, memory, and scaled times."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .harness import Timing, show_ratio, show_seconds, show_verdict


@dataclass(frozen=True)
class Bound:
    """A row: an amount, in ``unit``, that must stay below a bound; with upstream's amount."""

    work: str
    counted: str
    ours: float
    upstream: float | None
    unit: str
    target: float | None

    @property
    def ratio(self) -> float:
        return self.ours

    @property
    def passed(self) -> bool | None:
        return None if self.target is None else self.ours <= self.target

    def cells(self) -> tuple[str, ...]:
        upstream = "" if self.upstream is None else f"{self.upstream:,.4g} {self.unit}"
        return (
            self.work,
            upstream,
            f"{self.ours:,.3g} {self.unit}",
            f"{show_ratio(self.upstream / self.ours)}x less" if self.upstream and self.ours else "",
            "" if self.target is None else f"<= {self.target:,.3g} {self.unit}",
            show_verdict(self.passed),
            self.counted,
        )


@dataclass(frozen=True)
class Scaled:
    """A row: shardplan at full size, and upstream at ``part`` of it, scaled by the items.

    Upstream's time grows at least as fast as its items, so the ratio is not exaggerated.
    """

    work: str
    counted: str
    ours: Timing
    upstream: Timing
    part: float
    target: float | None

    @property
    def ratio(self) -> float:
        return self.upstream.seconds / self.part / self.ours.seconds

    @property
    def passed(self) -> bool | None:
        return None if self.target is None else self.ratio >= self.target

    def cells(self) -> tuple[str, ...]:
        target = "" if self.target is None else f">= {self.target:,.0f}x"
        return (
            self.work,
            f"{show_seconds(self.upstream.seconds)} x {1 / self.part:.0f}",
            show_seconds(self.ours.seconds),
            f"{show_ratio(self.ratio)}x",
            target,
            show_verdict(self.passed),
            self.counted,
        )


@dataclass(frozen=True)
class Share:
    """A row: the speed of shardplan and of upstream, as shares of that of plain system calls."""

    work: str
    counted: str
    size: int
    ours: Timing
    upstream: Timing
    raw: Timing
    target: float | None

    @property
    def ratio(self) -> float:
        return self.raw.seconds / self.ours.seconds

    @property
    def passed(self) -> bool | None:
        return None if self.target is None else self.ratio >= self.target

    def cells(self) -> tuple[str, ...]:
        upstream, ours, raw = (
            f"{self.size / timing.seconds / 2**30:.1f} GiB/s"
            for timing in (self.upstream, self.ours, self.raw)
        )
        return (
            self.work,
            f"{upstream}, {100 * self.raw.seconds / self.upstream.seconds:.0f} % of raw",
            ours,
            f"{100 * self.ratio:.0f} % of raw",
            "" if self.target is None else f">= {100 * self.target:.0f} % of raw",
            show_verdict(self.passed),
            f"{self.counted} ({raw})",
        )


def peak_memory(work: Callable[[Any], object], given: Any) -> float:
    """Bytes that ``work(given)`` adds to the peak memory of a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "given")
        file.write_bytes(pickle.dumps(given))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_added, (work, file))


def added_by_each(
    names: Iterable[str], call: Callable[..., float], *given: Any
) -> dict[str, float]:
    """Returns what ``call(name, *given)`` returns in a process of its own, in MiB."""
    added = {}
    for name in names:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            added[name] = pool.apply(call, (name, *given)) / 2**20
    return added


def _added(work: Callable[[Any], object], file: Path) -> float:
    before = high_water()
    work(pickle.loads(file.read_bytes()))
    return high_water() - before


def high_water() -> float:
    """Peak memory of this process so far, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return float(line.split()[1]) * 1024
    raise RuntimeError("the system does not report the peak memory of a process")


def forget_high_water() -> None:
    """Makes the memory that this process has now the least value of its peak."""
    Path("/proc/self/clear_refs").write_text("5")
