"""Ten thousand rounds of every operation leave no more objects and memory than a few rounds."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each value is Python source that defines `round_()`; WORLD precedes it.
WORLD = """
import copy, gc, io, itertools, logging, os, pickle
import torch
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan
import shardplan
from shardplan import _core, default_planner
from shardplan.dcp import wire
from shardplan.dcp.storage import metadata_file
logging.disable(logging.CRITICAL)
state = {"a": {"w": torch.zeros(6, 4), "v": torch.zeros(3)}, "n": 3}
planner = shardplan.DefaultSavePlanner()
planner.set_up_planner(state, is_coordinator=True)
plans, metadata = planner.create_global_plan([planner.create_local_plan()])
metadata.storage_data = {}

def sent(value):
    stream = io.BytesIO()
    wire.Pickler(stream).dump(value)
    return stream.getvalue()

def flipped(whole):
    # One bit of each byte in turn, for ever.
    for at in itertools.cycle(range(len(whole))):
        broken = bytearray(whole)
        broken[at] ^= 1
        yield bytes(broken)
"""

ROUNDS = {
    "plans": """
def round_():
    planner = shardplan.DefaultSavePlanner()
    planner.set_up_planner(state, is_coordinator=True)
    plans = [pickle.loads(sent(planner.create_local_plan())) for _ in range(2)]
    made, metadata = planner.create_global_plan(plans)
    for plan in made:
        list(planner.finish_plan(pickle.loads(sent(plan))).items)
    loader = shardplan.DefaultLoadPlanner(check_dtype=True, check_coverage=True)
    loader.set_up_planner(state, metadata, is_coordinator=True)
    list(pickle.loads(sent(loader.create_local_plan())).items)
""",
    "plans that are not valid": """
items = list(planner.create_local_plan().items)
def round_():
    wrong = [SavePlan([items[0]], planner_data={}), SavePlan([], planner_data={})]
    object.__setattr__(wrong[0].items[0].tensor_data, "size", torch.Size([7, 4]))
    try:
        planner.create_global_plan(wrong)
    except ValueError as error:
        assert pickle.loads(pickle.dumps(error)).report["bad"] == 1
    else:
        raise AssertionError("it was valid")
""",
    "loads that do not fit": """
def round_():
    loader = shardplan.DefaultLoadPlanner()
    loader.set_up_planner({"absent": torch.zeros(2), "n": 1}, metadata, True)
    try:
        loader.create_local_plan()
    except RuntimeError as error:
        assert error.report["missing_count"] == 1
    else:
        raise AssertionError("it fits")
""",
    "bytes that are broken": """
all_broken = flipped(sent(planner.create_local_plan()))
def round_():
    try:
        list(pickle.loads(next(all_broken)).items)
    except Exception:
        pass
""",
    "metadata files": """
def round_():
    stream = io.BytesIO()
    metadata_file.dump(metadata, stream)
    stream.seek(0)
    found = metadata_file.load(stream, "file", False)
    for saved in found.state_dict_metadata.values():
        list(getattr(saved, "chunks", ()))
    found.storage_data.get("absent")
""",
    "metadata files that are broken": """
stream = io.BytesIO()
metadata_file.dump(metadata, stream)
all_broken = flipped(stream.getvalue())
def round_():
    broken = next(all_broken)
    for read in (lambda: metadata_file.load(io.BytesIO(broken), "file", False),
                 lambda: _core.Checkpoint(io.BytesIO(broken).readinto)):
        try:
            read()
        except Exception:
            pass
""",
    "checkpoints that are looked at": """
stream = io.BytesIO()
metadata_file.dump(metadata, stream)
def round_():
    stream.seek(0)
    checkpoint = _core.Checkpoint(stream.readinto)
    count = len(checkpoint.entries())
    checkpoint.arrangements(), checkpoint.files(), checkpoint.faults({})
    checkpoint.invalid_entries(True)
    checkpoint.reshard([2], [[("shard", 0, 1)]], [0] * count, [4] * count)
    _core.simulate([("a", [4, 4], "float32", 4, 0)], [2], [[("shard", 0, 1)]], 0)
""",
}

WATCH = """
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

def measured(rounds):
    for _ in range(rounds):
        round_()
    gc.collect()
    return len(gc.get_objects()), sys.getrefcount(None), resident()

import sys
measured(1_000)
objects, nones, memory = measured(1_000)
more_objects, more_nones, more_memory = measured(ROUNDS)
print(more_objects - objects, more_nones - nones, more_memory - memory)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/statm")
@pytest.mark.parametrize("name", ROUNDS)
def test_rounds_leak_nothing(name: str) -> None:
    program = WORLD + ROUNDS[name] + WATCH.replace("ROUNDS", "8_000")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    objects, nones, memory = map(int, done.stdout.split())
    # A leak is at least one object a round; caches and the allocator change by less.
    assert abs(objects) < 100
    # From Python 3.12 on, None is immortal and its count does not change.
    assert abs(nones) < 1_000
    assert memory < 8_000 * 256
