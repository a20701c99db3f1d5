"""Compares the runs of test files, and prints what differs."""

from __future__ import annotations

import dataclasses
from collections import Counter

from .outcomes import FileRun
from .running import Way

ABSENT = "not run"


@dataclasses.dataclass(frozen=True)
class Difference:
    """A test whose outcome with shardplan is not that of upstream."""

    test: str
    way: Way
    upstream: str
    ours: str
    detail: str

    def __str__(self) -> str:
        lines = [line for line in self.detail.splitlines() if line.strip()]
        head = f"{self.test}: {self.upstream} on upstream, {self.ours} with {self.way}"
        return "\n".join([head, *(f"    {line}" for line in lines[-12:])])


def differences(runs: dict[Way, FileRun]) -> list[Difference]:
    """Returns the differences between the run on upstream and the others."""
    upstream = runs[Way.UPSTREAM]
    found = []
    for way, ours in runs.items():
        for test in {**upstream.outcomes, **ours.outcomes}:
            before = upstream.outcomes.get(test, ABSENT)
            after = ours.outcomes.get(test, ABSENT)
            if before != after:
                detail = ours.details.get(test) or upstream.details.get(test, "")
                found.append(Difference(test, way, before, after, detail))
    return found


def failures_of_upstream(runs: dict[Way, FileRun]) -> list[str]:
    """Returns the tests that fail on upstream, each with the first line of its failure."""
    found = []
    for test, outcome in runs[Way.UPSTREAM].outcomes.items():
        if outcome not in ("passed", "skipped"):
            lines = runs[Way.UPSTREAM].details.get(test, "").splitlines()
            reason = next((line for line in lines if line.strip()), "")
            found.append(f"{test}: {outcome}: {reason[:200]}")
    return found


def numbers(runs: list[FileRun]) -> str:
    """Returns how many tests had each outcome."""
    counts = Counter(
        outcome.split()[0] if not outcome.startswith("no ") else "without a report"
        for done in runs
        for outcome in done.outcomes.values()
    )
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "no tests"


def summary(runs: list[dict[Way, FileRun]]) -> str:
    """Returns the numbers of outcomes of each way, and the calls and fallbacks."""
    lines = []
    for way in Way:
        lines.append(f"{way!s:<12}{numbers([by_way[way] for by_way in runs])}")
    for way in (Way.REGISTERED, Way.CLASSES):
        for kind in ("calls", "fallbacks"):
            total: Counter[str] = Counter()
            for by_way in runs:
                total.update(getattr(by_way[way], kind))
            lines.append(f"{total.total()} {kind} with {way}")
            lines += [f"{count:>10} {name}" for name, count in total.most_common()]
    return "\n".join(lines)
