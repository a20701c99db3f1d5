"""A hundred faults on real processes, and the rules that judge them."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .checkpoint import ATOMIC, SHARDPLAN, WITH_DEADLINE
from .fault import ACTIONS, FILE_CALL, SIZE, Fault
from .rules import broken
from .world import Outcome, RankEnd

ROOT = Path(__file__).parents[2]
COUNT = 100


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None,
    reason="the library that is preloaded needs Linux and a C compiler",
)
def test_a_hundred_faults() -> None:
    command = [sys.executable, "-m", "tests.faults", "--count", str(COUNT), "--at-once", "6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(
        r"(\d+) faults in .* 0 outcomes .* break a rule, and (\d+) of torch", done.stdout
    )
    assert told and int(told[1]) == COUNT
    # A failed save over a checkpoint leaves a mix of both, with torch.
    assert int(told[2]) > 0, done.stdout
    rows = re.findall(r"^\| ([\w ]+) \| (\w+) \| (\d+) \| (\d+) \|", done.stdout, re.MULTILINE)
    assert len(rows) == 4 * len(ACTIONS)
    assert all(runs == happened for _, _, runs, happened in rows), done.stdout


FAULT = Fault("overwrite", 1, "kill", FILE_CALL, "before", 0.5, 5)
GONE = RankEnd("killed", {"log": ""})


def ends(how: str, **note: Any) -> list[RankEnd]:
    """All ranks but the faulty one end so."""
    found = {"text": "", "named": [1], "seconds": 1.0} | note
    return [GONE if rank == FAULT.rank else RankEnd(how, found) for rank in range(SIZE)]


def outcome(ranks: list[RankEnd], contents: str, is_unchanged: bool = False) -> Outcome:
    return Outcome(ranks, contents, True, is_unchanged, [])


GOOD = outcome(ends("raised"), "none")
RETURNED = ends("returned")


@pytest.mark.parametrize(
    ("variant", "bad", "message"),
    [
        (SHARDPLAN, outcome(ends("raised"), "mixed"), "the directory holds: mixed"),
        (SHARDPLAN, outcome(ends("raised"), "unreadable"), "the directory holds: unreadable"),
        (SHARDPLAN, outcome(RETURNED, "none"), "the directory holds: none after a rank returned"),
        (SHARDPLAN, outcome(ends("hangs"), "none"), "a survivor took 25.0 s"),
        (SHARDPLAN, outcome(ends("raised", seconds=9.0), "none"), "a survivor took 9.0 s"),
        (SHARDPLAN, outcome(ends("exit 256", log="why"), "none"), "ended with exit 256: why"),
        (SHARDPLAN, outcome([GONE] * SIZE, "none"), "rank 0 crashed"),
        (SHARDPLAN, outcome([*RETURNED[:3], GONE], "new"), "survivors differ: killed, returned"),
        (WITH_DEADLINE, outcome(ends("raised", named=[2]), "none"), "does not name rank 1"),
        (ATOMIC, outcome(ends("raised"), "none"), "the directory holds: none"),
    ],
)
def test_rules(variant: str, bad: Outcome, message: str) -> None:
    assert broken(FAULT, SHARDPLAN, GOOD, GOOD) == []
    assert any(message in text for text in broken(FAULT, variant, bad, GOOD))


@pytest.mark.parametrize(
    ("changes", "bad", "message"),
    [
        ({"action": "slow"}, GOOD, "only slow"),
        ({"operation": "load"}, outcome(RETURNED, "old"), "a load changed the files"),
        ({"operation": "load"}, outcome(RETURNED, "none", True), "the directory holds: none"),
        (
            {"operation": "load"},
            outcome(ends("raised", text="a value is wrong"), "old", True),
            "loaded a wrong value",
        ),
    ],
)
def test_rules_of_other_faults(changes: dict[str, Any], bad: Outcome, message: str) -> None:
    fault = dataclasses.replace(FAULT, **changes)
    assert any(message in text for text in broken(fault, SHARDPLAN, bad, GOOD))
