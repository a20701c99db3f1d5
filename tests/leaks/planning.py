"""Rounds of planning, of the wire, and of metadata files."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan

import shardplan
from plan_caches import clear_plan_caches
from shardplan import _core
from shardplan.dcp import wire
from shardplan.dcp.storage import metadata_file

Round = Callable[[], None]


def a_state() -> dict[str, Any]:
    return {"a": {"w": torch.zeros(6, 4), "v": torch.zeros(3)}, "n": 3}


def a_planner() -> Any:
    planner = shardplan.DefaultSavePlanner()
    planner.set_up_planner(a_state(), is_coordinator=True)
    return planner


def a_checkpoint() -> Metadata:
    planner = a_planner()
    _, metadata = planner.create_global_plan([planner.create_local_plan()])
    metadata.storage_data = {}
    return metadata


def sent(value: Any) -> bytes:
    stream = io.BytesIO()
    wire.Pickler(stream).dump(value)
    return stream.getvalue()


def flipped(whole: bytes) -> Iterator[bytes]:
    """Yields the bytes with one bit flipped: one of each byte in turn, for ever."""
    for at in itertools.cycle(range(len(whole))):
        broken = bytearray(whole)
        broken[at] ^= 1
        yield bytes(broken)


def plans() -> Round:
    state, metadata = a_state(), a_checkpoint()

    def round_() -> None:
        planner = shardplan.DefaultSavePlanner()
        planner.set_up_planner(state, is_coordinator=True)
        plans = [pickle.loads(sent(planner.create_local_plan())) for _ in range(2)]
        made, _ = planner.create_global_plan(plans)
        for plan in made:
            list(planner.finish_plan(pickle.loads(sent(plan))).items)
        loader: Any = shardplan.DefaultLoadPlanner(check_dtype=True, check_coverage=True)
        loader.set_up_planner(state, metadata, is_coordinator=True)
        list(pickle.loads(sent(loader.create_local_plan())).items)

    return round_


def cached_plans() -> Round:
    state = a_state()

    def round_() -> None:
        for _ in range(2):  # the second time, the cached plans are used
            planner = shardplan.DefaultSavePlanner(enable_plan_caching=True)
            planner.set_up_planner(state, is_coordinator=True)
            made, _ = planner.create_global_plan([planner.create_local_plan()])
            list(planner.finish_plan(made[0]).items)
        clear_plan_caches()

    return round_


def invalid_plans() -> Round:
    planner = a_planner()
    items = list(planner.create_local_plan().items)

    def round_() -> None:
        wrong = [SavePlan([items[0]], planner_data={}), SavePlan([], planner_data={})]
        object.__setattr__(wrong[0].items[0].tensor_data, "size", torch.Size([7, 4]))
        try:
            planner.create_global_plan(wrong)
        except ValueError as error:
            assert pickle.loads(pickle.dumps(error)).report["bad"] == 1
        else:
            raise AssertionError("it was valid")

    return round_


def loads_that_do_not_fit() -> Round:
    metadata = a_checkpoint()

    def round_() -> None:
        loader = shardplan.DefaultLoadPlanner()
        loader.set_up_planner({"absent": torch.zeros(2), "n": 1}, metadata, True)
        try:
            loader.create_local_plan()
        except RuntimeError as error:
            assert error.report["missing_count"] == 1  # type: ignore[attr-defined]
        else:
            raise AssertionError("it fits")

    return round_


def broken_bytes() -> Round:
    all_broken = flipped(sent(a_planner().create_local_plan()))

    def round_() -> None:
        with contextlib.suppress(Exception):
            list(pickle.loads(next(all_broken)).items)

    return round_


def metadata_on_the_wire() -> Round:
    metadata = a_checkpoint()

    def round_() -> None:
        received = pickle.loads(sent(metadata))
        for saved in received.state_dict_metadata.values():
            list(getattr(saved, "chunks", ()))
        pickle.loads(pickle.dumps(received))
        copy.copy(received)

    return round_


def metadata_files() -> Round:
    metadata = a_checkpoint()

    def round_() -> None:
        stream = io.BytesIO()
        metadata_file.dump(metadata, stream)
        stream.seek(0)
        found = metadata_file.load(stream, "file", False)
        for saved in found.state_dict_metadata.values():
            list(getattr(saved, "chunks", ()))
        found.storage_data.get("absent")

    return round_


def broken_metadata_files() -> Round:
    stream = io.BytesIO()
    metadata_file.dump(a_checkpoint(), stream)
    all_broken = flipped(stream.getvalue())

    def round_() -> None:
        broken = next(all_broken)
        with contextlib.suppress(Exception):
            metadata_file.load(io.BytesIO(broken), "file", False)
        with contextlib.suppress(Exception):
            _core.Checkpoint(io.BytesIO(broken).readinto)

    return round_


def inspected_checkpoints() -> Round:
    stream = io.BytesIO()
    metadata_file.dump(a_checkpoint(), stream)

    def round_() -> None:
        stream.seek(0)
        checkpoint = _core.Checkpoint(stream.readinto)
        count = len(checkpoint.entries())
        checkpoint.arrangements(), checkpoint.files(), checkpoint.faults({})
        checkpoint.invalid_entries(True)
        checkpoint.reshard([2], [[("shard", 0, 1)]], [0] * count, [4] * count)
        _core.simulate([("a", [4, 4], "float32", 4, 0)], [2], [[("shard", 0, 1)]], 0, "balanced")

    return round_


ROUNDS: dict[str, Callable[[], Round]] = {
    "plans": plans,
    "cached plans": cached_plans,
    "plans that are not valid": invalid_plans,
    "loads that do not fit": loads_that_do_not_fit,
    "bytes that are broken": broken_bytes,
    "metadata on the wire": metadata_on_the_wire,
    "metadata files": metadata_files,
    "metadata files that are broken": broken_metadata_files,
    "checkpoints that are looked at": inspected_checkpoints,
}
