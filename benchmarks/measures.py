"""Rows that are no race: sizes, memory, and times held against a bound."""

from __future__ import annotations

from dataclasses import dataclass

from .harness import Timing, show_ratio, show_seconds, show_verdict


@dataclass(frozen=True)
class Bound:
    """A row: an amount of ours, in ``unit``, that is to stay under a bound; beside upstream's."""

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
            "" if self.upstream is None else f"{show_ratio(self.upstream / self.ours)}x less",
            "" if self.target is None else f"<= {self.target:,.3g} {self.unit}",
            show_verdict(self.passed),
            self.counted,
        )


@dataclass(frozen=True)
class Scaled:
    """A row: ours at full size beside upstream at ``part`` of it, scaled by the items.

    Upstream's time grows at least as fast as its items, so that the ratio is no exaggeration.
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
