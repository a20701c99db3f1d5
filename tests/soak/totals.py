"""What a soak has done so far."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter

from .jobs import Report
from .rounds import Round

#: Rounds of a world after which its memory counts as the memory at the start.
WARM_UP = 20
_MIB = 1 << 20


@dataclasses.dataclass
class Memory:
    """The resident memory of one rank, in bytes."""

    rounds: int = 0
    start: int = 0
    end: int = 0


class Totals:
    def __init__(self) -> None:
        self.began = time.monotonic()
        self.rounds = self.planned = self.saves = self.loads = self.bytes = 0
        self.errors: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self.memory: dict[tuple[int, int], Memory] = {}

    def add(self, reports: list[Report]) -> None:
        """Adds the reports of all ranks of a world; a save or load of all ranks counts as one."""
        self.saves += reports[0].saves
        self.loads += reports[0].loads
        self.errors.update(reports[0].errors)
        for rank, report in enumerate(reports):
            self.fallbacks.update(report.fallbacks)
            memory = self.memory.setdefault((len(reports), rank), Memory())
            memory.rounds += 1
            memory.end = report.resident
            if memory.rounds == WARM_UP:
                memory.start = report.resident

    def line(self) -> str:
        minutes = (time.monotonic() - self.began) / 60
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in self.fallbacks.most_common())
        return (
            f"{minutes:6.1f} min: {self.rounds:,} rounds, {self.saves:,} saves, "
            f"{self.loads:,} loads ({self.errors.total():,} of both raised upstream's error), "
            f"{self.bytes / 1e6:,.0f} MB written, {self.planned:,} worlds planned; "
            f"fallbacks: {reasons or 'none'}"
        )

    def kinds_of_errors(self) -> list[str]:
        return [f"{count:,} x {kind}" for kind, count in self.errors.most_common()]

    def growth(self) -> list[str]:
        """Describes the resident memory of each rank, after the warm-up and at the end."""
        lines = []
        for (size, rank), memory in sorted(self.memory.items()):
            text = f"rank {rank} of {size}: {memory.rounds:,} jobs, {memory.end / _MIB:.1f} MiB"
            if memory.start:
                growth = (memory.end - memory.start) / _MIB
                text += f", {growth:+.1f} MiB since job {WARM_UP}"
            lines.append(text)
        return lines


def describe(round_: Round) -> str:
    fields = dataclasses.fields(round_)
    return "\n".join(f"  {field.name} = {getattr(round_, field.name)}" for field in fields)
