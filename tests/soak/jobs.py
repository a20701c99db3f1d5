"""The saves and loads of a round, on every rank of a world."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

import shardplan
from distributed.planning import described, planning
from plan_caches import clear_plan_caches
from shardplan.dcp import fallbacks, wire

from .models import Model, Request, State, same_values
from .rounds import UPSTREAM, Round, Way


@dataclasses.dataclass
class Report:
    """What one rank did."""

    saves: int = 0
    loads: int = 0
    #: Errors of upstream that every way raised, too, by type and message.
    errors: Counter[str] = dataclasses.field(default_factory=Counter)
    fallbacks: Counter[str] = dataclasses.field(default_factory=Counter)
    #: Whether the round's saves gave checkpoints.
    saved: bool = True
    resident: int = 0


def resident() -> int:
    """Returns the bytes of memory that this process has, without what it maps from files."""
    with open("/proc/self/statm") as file:
        pages = [int(number) for number in file.read().split()]
    return (pages[1] - pages[2]) * os.sysconf("SC_PAGESIZE")


def save(round_: Round, base: Path) -> Report:
    """Saves with each way into its own directory of ``base``."""
    report = Report()
    model = Model(round_.seed, round_.safetensors)
    earlier = Model(round_.seed + 1) if round_.overwrites else None
    state = model.to_save(round_.kinds)
    old = None if earlier is None else earlier.to_save(round_.kinds)
    errors = {}
    if round_.in_background and not _can_be_staged(state, base):
        round_ = dataclasses.replace(round_, in_background=False)
    with _counted(report):
        for at, way in enumerate(round_.save_ways):
            with _using(way):
                errors[way] = _error(_save_all, round_, way, base / str(at), state, model, old)
            report.saves += round_.times + round_.overwrites
    _assert_same_errors(errors)
    report.saved = errors[UPSTREAM] is None
    report.errors.update(_summary(error) for error in errors.values() if error is not None)
    return report


def _can_be_staged(state: State, base: Path) -> bool:
    """Returns whether every rank can copy the state dict.

    If upstream's ``async_save`` raises while some of the ranks copy, the others wait for them.
    """
    try:
        dcp.FileSystemWriter(base / "none").stage(state.state_dict)
        failed = 0
    except Exception:
        failed = 1
    together = torch.tensor(failed)
    dist.all_reduce(together)
    return not together.item()


def _save_all(
    round_: Round, way: Way, folder: Path, state: State, model: Model, old: State | None
) -> None:
    options = dict(round_.planner, flatten_state_dict=model.flatten)
    if old is not None:
        with planning(way.planner) as planners:
            writer = _writer(round_, way, folder)
            dcp.save({"old": old.state_dict}, storage_writer=writer, planner=planners.save())
    for _ in range(round_.times):
        with planning(way.planner) as planners:
            writer, planner = _writer(round_, way, folder), planners.save(**options)
            if not round_.in_background:
                dcp.save(state.state_dict, storage_writer=writer, planner=planner)
                continue
            done = dcp.async_save(
                state.state_dict,
                storage_writer=writer,
                planner=planner,
                async_checkpointer_type=AsyncCheckpointerType.THREAD,
            )
            done.result(timeout=60)


def _writer(round_: Round, way: Way, folder: Path) -> Any:
    if round_.safetensors:
        kind: Any = dcp.HuggingFaceStorageWriter
        if way.storage != "upstream":
            kind = shardplan.HuggingFaceStorageWriter
        return kind(str(folder), save_distributed=True, thread_count=round_.writer["thread_count"])
    if way.storage == "url":
        return shardplan.FsspecWriter(f"file://{folder}", **round_.writer)
    if way.storage == "atomic":
        return shardplan.FileSystemWriter(folder, atomic=True, **round_.writer)
    kind = shardplan.FileSystemWriter if way.storage == "ours" else dcp.FileSystemWriter
    return kind(folder, **round_.writer)


def load(round_: Round, base: Path) -> Report:
    """Loads the checkpoints of the first two ways, with each way, and compares every bit."""
    report = Report()
    model = Model(round_.seed, round_.safetensors)
    with _counted(report):
        for folder in (base / "0", base / "1"):
            _load_and_compare(round_, model, round_.request, folder, report)
        if round_.damage:
            # A reader that verifies raises its own error for damaged data.
            round_ = dataclasses.replace(round_, reader=dict(round_.reader, verify=False))
            request = dataclasses.replace(round_.request, converted=0.0)
            _load_and_compare(round_, model, request, base / "damaged", report, round_.damage)
    return report


def _load_and_compare(
    round_: Round,
    model: Model,
    request: Request,
    folder: Path,
    report: Report,
    damage: str = "",
) -> None:
    errors, first = {}, None
    for way in round_.load_ways:
        state, expected = model.to_load(request, round_.savers)
        _ask_for_more(state, damage)
        with _using(way):
            errors[way] = _error(_load, round_, way, folder, state, model.flatten)
        report.loads += 1
        if errors[way] is not None:
            report.errors[_summary(errors[way])] += 1
            continue
        if not damage:
            for key, values in expected.items():
                for value, (box, found) in zip(values, state.pieces[key], strict=True):
                    assert same_values(found, value), f"{way}: {key} at {box} was not loaded"
        if first is None:
            first = state
        else:
            _assert_same(state, first, request.converted > 0, way)
    _assert_same_errors(errors)


def _ask_for_more(state: State, damage: str) -> None:
    if damage == "missing key":
        state.state_dict["not in the checkpoint"] = torch.zeros(3)
    if damage == "wrong size":
        for key, value in state.state_dict.items():
            if type(value) is torch.Tensor:
                state.state_dict[key] = torch.zeros(*value.shape, 2)
                break


def _load(round_: Round, way: Way, folder: Path, state: State, flatten: bool) -> None:
    with planning(way.planner) as planners:
        options = dict(round_.reader)
        if round_.safetensors:
            reader: Any = dcp.HuggingFaceStorageReader(str(folder))
            if way.storage != "upstream":
                reader = shardplan.HuggingFaceStorageReader(str(folder))
        elif way.storage == "upstream":
            reader = dcp.FileSystemReader(folder)
        elif way.storage == "url":
            reader = shardplan.FsspecReader(f"file://{folder}", **options)
        else:
            reader = shardplan.FileSystemReader(folder, **options)
        planner = planners.load(flatten_state_dict=flatten)
        dcp.load(state.state_dict, storage_reader=reader, planner=planner)


def _assert_same(state: State, upstream: State, converted: bool, way: Way) -> None:
    """Compares all memory of the targets, also what lies between their elements."""
    ours, theirs = state.memory(), upstream.memory()
    assert list(ours) == list(theirs)
    for key, parts in ours.items():
        for at, (mine, other) in enumerate(zip(parts, theirs[key], strict=True)):
            if torch.equal(mine, other):
                continue
            # The payload of a converted NaN depends on which of its loops torch takes.
            one, two = state.pieces[key][at][1], upstream.pieces[key][at][1]
            is_same = converted and torch.equal(_without_nan(one), _without_nan(two))
            assert is_same, f"{way}: {key}, part {at}: {one} is not {two}"
    found, expected = state.objects(), upstream.objects()
    assert found == expected, f"{way}: {found} is not {expected}"


def _without_nan(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor.detach()
    return torch.nan_to_num(tensor.detach().to(torch.float64), nan=0.5)


def _error(function: Callable[..., None], *arguments: Any) -> Any:
    try:
        function(*arguments)
    except (Exception, CheckpointException) as error:
        kind, message, failures = described(error)
        return kind, message, {rank: _without_scheme(inner) for rank, inner in failures.items()}
    return None


def _without_scheme(described_error: tuple[str, str]) -> tuple[str, str]:
    kind, message = described_error
    return kind, message.replace("file://", "")


def _summary(error: Any) -> str:
    """Describes an error without names and numbers, to count those of one kind."""
    kind, message, failures = error
    if failures:
        kind, message = failures[min(failures)]
    return f"{kind}: {re.sub(r'[^ ]*[^A-Za-z :.,][^ ]*', '~', message)[:60]}"


def _assert_same_errors(errors: dict[Way, Any]) -> None:
    for way, error in errors.items():
        assert error == errors[UPSTREAM], f"{way}: {error!r} is not {errors[UPSTREAM]!r}"


@contextlib.contextmanager
def _using(way: Way) -> Iterator[None]:
    """Upstream works without shardplan's pickler, and without plans of other ways."""
    if way == UPSTREAM:
        wire.uninstall()
    clear_plan_caches()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _counted(report: Report) -> Iterator[None]:
    fallbacks.clear()
    yield
    report.fallbacks.update(fallbacks.fallbacks())
    report.resident = resident()
