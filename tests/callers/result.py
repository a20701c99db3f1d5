"""What one case found in one world, and the table of all of them."""

from __future__ import annotations

import dataclasses
import json
import re

#: Upstream torch is timed twice in every round, which shows the noise of the machine.
UPSTREAM, AGAIN, OURS = "upstream", "upstream again", "shardplan"


@dataclasses.dataclass
class Result:
    """What rank 0 prints.

    Attributes:
        save: the shortest time of a save, by who saved; in seconds.
        load: the same of a load.
        calls: of shardplan's functions on all ranks, in one save and one load.
        fallbacks: on all ranks, in the same save and load, by reason.
        notes: what a reader should know, though it is no error.
        problems: what is wrong; empty if all checks passed.
    """

    case: str
    version: str
    torch: str
    device: str
    ranks: int
    entries: int = 0
    tensors: int = 0
    save: dict[str, float] = dataclasses.field(default_factory=dict)
    load: dict[str, float] = dataclasses.field(default_factory=dict)
    calls: dict[str, int] = dataclasses.field(default_factory=dict)
    fallbacks: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def from_output(output: str) -> list[Result]:
    """Returns the results in the output of a world, where a framework may have printed too."""
    lines = re.findall(r'\{"case": .*\}$', output, re.MULTILINE)
    return [Result(**json.loads(line)) for line in lines]


def _ratio(times: dict[str, float]) -> str:
    upstream = min(times[UPSTREAM], times[AGAIN])
    return f"{upstream:.2f} s / {times[OURS]:.2f} s = **{upstream / times[OURS]:.1f}x**"


def _noise(times: dict[str, float]) -> str:
    return f"{times[UPSTREAM] / times[AGAIN]:.2f}x"


def _cells(result: Result, what: str) -> list[str]:
    first = [result.case, result.version, what, f"{result.ranks}", f"{result.entries:,}"]
    if result.problems:
        return [*first, "failed", "failed", "", ""]
    noise = f"{_noise(result.save)}, {_noise(result.load)}"
    fallbacks = ", ".join(f"{count} x {why}" for why, count in result.fallbacks.items())
    return [*first, _ratio(result.save), _ratio(result.load), noise, fallbacks or "none"]


HEADINGS = (
    "caller",
    "version",
    "what was run",
    "ranks",
    "entries",
    "save, upstream / shardplan",
    "load",
    "upstream / upstream",
    "fallbacks",
)


def table(rows: list[tuple[Result, str]]) -> str:
    """Returns a table in Markdown.

    Args:
        rows: results, each with what was run.
    """
    lines = [list(HEADINGS), ["---"] * len(HEADINGS)]
    lines += [_cells(result, what) for result, what in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
