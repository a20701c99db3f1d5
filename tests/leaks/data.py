"""Rounds of saves and loads on real files, also of those that fail."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

import shardplan

Round = Callable[[], None]


def a_state() -> dict[str, Any]:
    """Tensors of several dtypes and layouts, two of which share memory, and byte entries."""
    rows = torch.arange(600.0).view(20, 30)
    return {
        "rows": rows,
        "columns": rows.t(),
        "some": rows[3:5],
        "half": torch.zeros(7, dtype=torch.bfloat16),
        "whole": torch.arange(5),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "steps": {"n": 3, "list": [1, "text"]},
    }


def tensors() -> dict[str, Any]:
    return {name: torch.arange(60.0).view(6, 10).to(torch.float16) for name in "abc"}


def save(state: dict[str, Any], writer: Any, planner: Any) -> None:
    dcp.save(state, storage_writer=writer, planner=planner, no_dist=True)


def load(state: dict[str, Any], reader: Any, planner: Any) -> None:
    dcp.load(state, storage_reader=reader, planner=planner, no_dist=True)


def fails(function: Callable[[], None], *kinds: type[BaseException]) -> None:
    try:
        function()
    except CheckpointException as error:
        (failure, _), *_ = error.failures.values()
        assert isinstance(failure, kinds), repr(failure)
    else:
        raise AssertionError("it did not fail")


def saves_and_loads(folder: Path, **options: Any) -> Round:
    state, target = a_state(), a_state()

    def round_() -> None:
        writer = shardplan.FileSystemWriter(folder / "new", sync_files=False, **options)
        save(state, writer, shardplan.DefaultSavePlanner())
        reader = shardplan.FileSystemReader(folder / "new", thread_count=2, verify=True)
        load(target, reader, shardplan.DefaultLoadPlanner())

    return round_


def registered_saves_and_loads(folder: Path) -> Round:
    state, target = a_state(), a_state()
    shardplan.register()

    def round_() -> None:
        writer = dcp.FileSystemWriter(folder, sync_files=False, thread_count=2)
        save(state, writer, dcp.DefaultSavePlanner())
        load(target, dcp.FileSystemReader(folder), dcp.DefaultLoadPlanner())

    return round_


def saves_and_loads_of_streams(folder: Path) -> Round:
    state, target = a_state(), a_state()

    def round_() -> None:
        writer = shardplan.FsspecWriter("memory://checkpoint", sync_files=False)
        save(state, writer, shardplan.DefaultSavePlanner())
        reader = shardplan.FsspecReader("memory://checkpoint")
        load(target, reader, shardplan.DefaultLoadPlanner())

    return round_


def safetensors(folder: Path) -> Round:
    state, target = tensors(), tensors()

    def round_() -> None:
        writer = shardplan.HuggingFaceStorageWriter(str(folder), save_distributed=True)
        save(state, writer, shardplan.DefaultSavePlanner())
        reader = shardplan.HuggingFaceStorageReader(str(folder))
        load(target, reader, shardplan.DefaultLoadPlanner())

    return round_


def loads_into_others(folder: Path) -> Round:
    """Loads into targets of another dtype and layout, and only some of the entries."""
    saved_in(folder)
    state = a_state()
    target = {
        "rows": torch.zeros(30, 20, dtype=torch.float64).t(),
        "half": torch.zeros(14)[::2],
        "whole": state["whole"].to(torch.int16),
    }

    def round_() -> None:
        load(target, shardplan.FileSystemReader(folder), shardplan.DefaultLoadPlanner())

    return round_


def loads_of_damaged_files(folder: Path, damage: str) -> Round:
    file = saved_in(folder)
    content, target = file.read_bytes(), a_state()
    if damage == "missing":
        file.unlink()
    else:
        cut, flip = content[: len(content) // 2], bytearray(content)
        flip[content.index(torch.arange(600.0).numpy().tobytes()) + 40] ^= 1
        file.write_bytes(cut if damage == "truncated" else flip)

    def round_() -> None:
        reader = shardplan.FileSystemReader(folder, verify=damage == "flipped")
        planner = shardplan.DefaultLoadPlanner()
        fails(lambda: load(target, reader, planner), OSError, RuntimeError, EOFError)

    return round_


def loads_that_do_not_fit(folder: Path) -> Round:
    saved_in(folder)
    wrong = [{"absent": torch.zeros(2)}, {"rows": torch.zeros(21, 30)}, {"scalar": torch.zeros(2)}]

    def round_() -> None:
        for state in wrong:
            reader, planner = shardplan.FileSystemReader(folder), shardplan.DefaultLoadPlanner()
            fails(functools.partial(load, dict(state), reader, planner), RuntimeError, ValueError)

    return round_


def saves_that_fail(folder: Path) -> Round:
    """A directory has the name of the data file, then that of the metadata file."""
    state = a_state()
    for name, inside in (("data", "__0_0.distcp"), ("metadata", ".metadata.tmp")):
        (folder / name / inside).mkdir(parents=True)

    def round_() -> None:
        for name in ("data", "metadata"):
            writer = shardplan.FileSystemWriter(folder / name, sync_files=False)
            planner = shardplan.DefaultSavePlanner()
            fails(functools.partial(save, state, writer, planner), OSError)

    return round_


def saved_in(folder: Path) -> Path:
    """Saves a checkpoint and returns its data file."""
    writer = shardplan.FileSystemWriter(folder, sync_files=False)
    save(a_state(), writer, shardplan.DefaultSavePlanner())
    return folder / "__0_0.distcp"


def _in_a_folder(make: Callable[..., Round], **options: Any) -> Callable[[], Round]:
    """Returns a maker of rounds in a directory that is removed at the end of the process."""

    def made() -> Round:
        warnings.simplefilter("ignore")
        folder = tempfile.mkdtemp(prefix="shardplan-leaks-")
        atexit.register(shutil.rmtree, folder)
        return make(Path(folder), **options)

    return made


ROUNDS: dict[str, Callable[[], Round]] = {
    "saves and loads": _in_a_folder(saves_and_loads, thread_count=2),
    "atomic saves and loads": _in_a_folder(saves_and_loads, atomic=True),
    "saves and loads of streams": _in_a_folder(saves_and_loads_of_streams),
    "safetensors files": _in_a_folder(safetensors),
    "loads into other dtypes": _in_a_folder(loads_into_others),
    "truncated files": _in_a_folder(loads_of_damaged_files, damage="truncated"),
    "files with a flipped bit": _in_a_folder(loads_of_damaged_files, damage="flipped"),
    "missing files": _in_a_folder(loads_of_damaged_files, damage="missing"),
    "missing keys and wrong sizes": _in_a_folder(loads_that_do_not_fit),
    "saves that fail": _in_a_folder(saves_that_fail),
    # The last, because shardplan stays registered.
    "registered saves and loads": _in_a_folder(registered_saves_and_loads),
}
