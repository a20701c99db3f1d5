"""``shardplan info --check`` reports whether saves and loads run natively."""

from __future__ import annotations

from .commands import json_of, run

REPLACED = """
from torch.distributed.checkpoint import planner_helpers
class WriteItem(planner_helpers.WriteItem): pass
planner_helpers.WriteItem = WriteItem
"""


def test_a_sound_environment() -> None:
    done = run("info", "--check")
    assert done.status == 0, done.out + done.err
    assert done.out.splitlines()[-1] == "6 entries saved and loaded natively."


def test_without_numpy_there_is_no_process_group() -> None:
    done = run("info", "--check", before='import sys; sys.modules["numpy"] = None')
    assert done.status == 0, done.out + done.err
    assert done.out.splitlines()[-1] == "5 entries saved and loaded natively."


def test_as_json() -> None:
    expected = {"entries": 6, "fallbacks": {}, "differences": []}
    assert json_of("info", "--check")["check"] == expected
    assert "check" not in json_of("info")


def test_without_check_torch_is_not_imported() -> None:
    at_exit = 'import atexit, sys; atexit.register(lambda: print("torch" in sys.modules))'
    assert run("info", before=at_exit).out.splitlines()[-1] == "False"


def test_an_environment_where_a_name_was_replaced() -> None:
    done = run("info", "--check", before=REPLACED)
    assert done.status == 1, done.out + done.err
    lines = done.out.splitlines()
    assert "Fallbacks to upstream's code:" in lines
    name = "torch.distributed.checkpoint.planner_helpers.WriteItem"
    assert f"     1 x local save plan: {name} was replaced" in lines
