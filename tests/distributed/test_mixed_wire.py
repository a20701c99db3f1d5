"""Some ranks send plans as columns and others in upstream's format, in one save and one load."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

import shardplan
from shardplan.dcp import wire

from .checkpoints import Held, assert_same_checkpoint, identical, whole, writer
from .planning import Planners, planning
from .state_dicts import BUILDERS, blank, held
from .world import Worlds

NO_WIRE = "registered, no wire"

# The planner of each of four ranks; the coordinator is first.
MIXES = (
    ("ours", "upstream", "upstream", "upstream"),
    ("upstream", "ours", "ours", "ours"),
    ("registered", "upstream", "upstream", "upstream"),
    ("upstream", "registered", "registered", "registered"),
    (NO_WIRE, "ours", "registered", "ours"),
    ("ours", NO_WIRE, "registered", NO_WIRE),
    (NO_WIRE, NO_WIRE, NO_WIRE, NO_WIRE),
    ("ours", "upstream", NO_WIRE, "registered"),
    ("upstream", "ours", NO_WIRE, "registered"),
)
LAYOUTS = ("fsdp", "replicated", "sharded_tensors", "sub_meshes", "nested")


@contextlib.contextmanager
def as_in(mix: tuple[str, ...]) -> Iterator[Planners]:
    who = mix[dist.get_rank()]
    # An earlier shardplan planner in this process has left the pickler installed.
    wire.uninstall()
    try:
        if who == NO_WIRE:
            with shardplan.registered(wire=False):
                yield Planners()
        else:
            with planning(who) as planners:
                yield planners
    finally:
        wire.uninstall()


def sends_columns() -> bool:
    pickler = dist.distributed_c10d._pickler
    assert pickler in (wire.Pickler, pickle.Pickler)
    return pickler is wire.Pickler


def save(layout: str, mix: tuple[str, ...], folder: Path) -> bool:
    """Saves, and returns whether this rank's plans travelled as columns."""
    with as_in(mix) as planners:
        dcp.save(BUILDERS[layout](), storage_writer=writer(folder), planner=planners.save())
        return sends_columns()


def load(layout: str, mix: tuple[str, ...], folder: Path) -> tuple[bool, Held]:
    state = blank(BUILDERS[layout])
    with as_in(mix) as planners:
        dcp.load(state, checkpoint_id=folder, planner=planners.load())
        return sends_columns(), held(state)


def state_held(layout: str) -> Held:
    return held(BUILDERS[layout]())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_files_and_the_same_state(worlds: Worlds, tmp_path: Path, layout: str) -> None:
    world, upstream = worlds[4], tmp_path / "upstream"
    assert not any(world.run(save, layout, ("upstream",) * 4, upstream))
    saved = world.run(state_held, layout)
    for i, mix in enumerate(MIXES):
        columns = [who in ("ours", "registered") for who in mix]
        assert world.run(save, layout, mix, tmp_path / str(i)) == columns
        assert_same_checkpoint(tmp_path / str(i), upstream)
        loaded = world.run(load, layout, mix, tmp_path / str(i))
        assert [sent for sent, _ in loaded] == columns
        assert identical(whole([state for _, state in loaded]), whole(saved)), mix
