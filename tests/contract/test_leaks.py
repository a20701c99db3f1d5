"""Many rounds of every operation leave no more objects, memory and open files than a few rounds.

``make leaks`` runs ten thousand rounds of each.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

from leaks import data, planning
from leaks.growth import measure_apart

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/statm"),
    pytest.mark.skipif(
        "libasan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer keeps freed memory"
    ),
]
HAS_SAFETENSORS = importlib.util.find_spec("safetensors") is not None


def assert_flat(names: list[str], rounds: int, warm_up: int) -> None:
    grown = measure_apart(names, rounds, warm_up, timeout=300)
    faults = {name: growth.faults() for name, growth in grown.items()}
    assert faults == {name: [] for name in names}


def test_planning_leaks_nothing() -> None:
    assert_flat(list(planning.ROUNDS), rounds=2_500, warm_up=500)


def test_reads_and_writes_leak_nothing() -> None:
    names = [name for name in data.ROUNDS if HAS_SAFETENSORS or name != "safetensors files"]
    assert_flat(names, rounds=120, warm_up=60)
