"""What is printed of the faults."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence

from .checkpoint import TORCH
from .fault import ACTIONS, Fault
from .world import Outcome

_EVERY = 60.0  # seconds between two lines


class _Row:
    """The outcomes of one action with one variant."""

    def __init__(self) -> None:
        self.count = 0
        self.fired = 0
        self.named = 0
        self.failed = 0
        self.longest = 0.0
        self.contents: Counter[str] = Counter()


class Report:
    """Counts outcomes, and prints each that breaks a rule."""

    def __init__(self, variants: Sequence[str]) -> None:
        self._rows = {(action, variant): _Row() for action in ACTIONS for variant in variants}
        self._faults: set[int] = set()
        self._start = self._told = time.monotonic()
        self._broken = 0
        self._broken_by_torch = 0

    @property
    def is_broken(self) -> bool:
        """Whether shardplan has broken a rule."""
        return self._broken > 0

    def add(
        self, index: int, fault: Fault, variant: str, outcome: Outcome, wrong: list[str]
    ) -> None:
        row = self._rows[fault.action, variant]
        survivors = [end for rank, end in enumerate(outcome.ranks) if rank != fault.rank]
        raised = [end for end in survivors if end.how != "returned"]
        row.count += 1
        row.fired += outcome.fired
        row.failed += bool(raised)
        row.named += bool(raised) and all(fault.rank in end.note.get("named", []) for end in raised)
        row.longest = max([row.longest, *(end.note.get("seconds", 0.0) for end in survivors)])
        row.contents[outcome.contents] += 1
        self._faults.add(index)
        if wrong and variant == TORCH:
            self._broken_by_torch += 1
        elif wrong:
            self._broken += 1
            print(f"BROKEN {index} ({fault}), {variant}:")
            for text in wrong:
                print(f"  {text}")
            sys.stdout.flush()
        if time.monotonic() - self._told > _EVERY:
            self._told = time.monotonic()
            minutes = (self._told - self._start) / 60
            print(f"{len(self._faults)} faults, {minutes:.0f} minutes", flush=True)

    def __str__(self) -> str:
        lines = [
            f"{len(self._faults)} faults in {(time.monotonic() - self._start) / 60:.1f} minutes; "
            f"{self._broken} outcomes of shardplan break a rule, "
            f"and {self._broken_by_torch} of torch",
            "",
            "| action | with | runs | happened | others failed | and all named the rank | longest "
            "| the directory holds |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for (action, variant), row in self._rows.items():
            if not row.count:
                continue
            contents = ", ".join(f"{name} {count}" for name, count in row.contents.most_common())
            lines.append(
                f"| {action} | {variant} | {row.count} | {row.fired} | {row.failed} | {row.named} "
                f"| {row.longest:.1f} s | {contents} |"
            )
        return "\n".join(lines)
