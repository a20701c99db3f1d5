"""Trains on four processes, saves, and loads on three, on two, and on another mesh.

A small transformer is trained with FSDP2 and AdamW, on a 1-D mesh and on a 2-D one (FSDP x TP), and
saved with shardplan's planner and writer. Every checkpoint is loaded elsewhere with shardplan's
planner and reader, each by the other implementation too, and compared bit for bit with what was
trained. Exits non-zero on any difference.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

import shardplan
from reshard_demo import checks, model, report
from reshard_demo.stages import (
    PLANNER_STAGES,
    READER_STAGES,
    WRITER_STAGES,
    Times,
    timed,
    timing,
)
from reshard_demo.worlds import Say, WorldFailed, run_world

TRAINED_ON = {"1-D mesh of 4": (4,), "2-D mesh of 2 x 2": (2, 2)}
# Every checkpoint goes to three processes, to two, and to the mesh of the other.
LOADED_ON: list[tuple[int, list[tuple[str, tuple[int, ...]]]]] = [
    (3, [("1-D mesh of 4", (3,)), ("2-D mesh of 2 x 2", (3,))]),
    (2, [("1-D mesh of 4", (2,)), ("2-D mesh of 2 x 2", (2,))]),
    (4, [("1-D mesh of 4", (2, 2)), ("2-D mesh of 2 x 2", (4,))]),
]
ROUNDS = 3
SHOWN = 10
#: The planner and the writer of a save, the planner and the reader of a load.
SAVERS = {
    "upstream": (dcp.DefaultSavePlanner, dcp.FileSystemWriter),
    "ours": (shardplan.DefaultSavePlanner, shardplan.FileSystemWriter),
}
LOADERS = {
    "upstream": (dcp.DefaultLoadPlanner, dcp.FileSystemReader),
    "ours": (shardplan.DefaultLoadPlanner, shardplan.FileSystemReader),
}


@dataclass
class Outcome:
    """What one rank found in one job."""

    wrong: list[str]
    tensors: int
    times: dict[str, Times]
    loss: tuple[float, float] = (0.0, 0.0)


def save(state: dict[str, Any], path: Path, who: str, times: Times) -> None:
    """Saves with upstream's planner and writer or with ours, and notes how long each stage took."""
    planner, writer = SAVERS[who]
    storage_writer = timed(writer(path), WRITER_STAGES, times)
    save_planner = timed(planner(), PLANNER_STAGES, times)
    dist.barrier()
    with timing("whole dcp.save", times):
        dcp.save(state, storage_writer=storage_writer, planner=save_planner)


def load(state: dict[str, Any], path: Path, who: str, times: Times) -> None:
    """Loads with upstream's planner and reader or with ours, and notes how long each stage took."""
    planner, reader = LOADERS[who]
    storage_reader = timed(reader(path), READER_STAGES, times)
    load_planner = timed(planner(), PLANNER_STAGES, times)
    dist.barrier()
    with timing("whole dcp.load", times):
        dcp.load(state, storage_reader=storage_reader, planner=load_planner)


def train_and_save(say: Say, folder: Path) -> dict[str, Outcome]:
    """Trains on both meshes; saves with both planners, in turn, and compares what they wrote."""
    outcomes = {}
    for name, shape in TRAINED_ON.items():
        say(f"{name}: training")
        net, optimizer = model.make(model.make_mesh(shape), seed=0, lr=1e-2)
        losses = model.train(net, optimizer)
        state = model.state_of(net, optimizer, losses)
        full = checks.full_values(state)

        say(f"{name}: saving")
        times: dict[str, Times] = {who: {} for who in SAVERS}
        for count in range(ROUNDS):
            for who in SAVERS:
                save(state, folder / name / f"{who} {count}", who, times[who])
        wrong = []
        if dist.get_rank() == 0:
            torch.save(full, folder / name / "full values")
            for count in range(ROUNDS):
                upstream, ours = (folder / name / f"{who} {count}" for who in SAVERS)
                wrong += checks.checkpoint_differences(upstream, ours)
        tensors = sum(isinstance(value, torch.Tensor) for value in full.values())
        outcomes[name] = Outcome(wrong, tensors, times, (losses[0], losses[-1]))
    return outcomes


def load_elsewhere(
    say: Say, folder: Path, wanted: list[tuple[str, tuple[int, ...]]]
) -> dict[str, Outcome]:
    """Loads checkpoints, by the name of the mesh that they were trained on, on other meshes."""
    outcomes = {}
    for name, shape in wanted:
        say(f"{name} to {processes(shape)}: loading")
        net, optimizer = model.make(model.make_mesh(shape), seed=1, lr=0.5)
        full = torch.load(folder / name / "full values")
        outcome = Outcome([], 0, {who: {} for who in LOADERS})
        for saver in SAVERS:
            for loader in LOADERS:
                state = model.state_of(net, optimizer, [0.0] * model.STEPS)
                checks.spoil(state)
                checkpoint = folder / name / f"{saver} {ROUNDS - 1}"
                load(state, checkpoint, loader, outcome.times[loader])
                outcome.wrong += [
                    f"saved by {saver}, loaded by {loader}: {difference}"
                    for difference in checks.differences(full, checks.full_values(state))
                ]
        outcome.tensors = sum(isinstance(value, torch.Tensor) for value in full.values())
        outcomes[name] = outcome
    return outcomes


def shape_name(shape: tuple[int, ...]) -> str:
    return f"{' x '.join(map(str, shape))} processes"


def report_job(progress: report.Progress, text: str, ranks: list[Outcome]) -> bool:
    """Prints what a job found; returns whether nothing was wrong."""
    wrong = [f"rank {rank}: {line}" for rank, found in enumerate(ranks) for line in found.wrong]
    progress.note(f"{'DIFFERS' if wrong else 'ok':<8}{text}")
    for line in wrong[:SHOWN]:
        progress.note(f"        {line}")
    if len(wrong) > SHOWN:
        progress.note(f"        and {len(wrong) - SHOWN} more")
    return not wrong


def run(folder: Path, progress: report.Progress) -> bool:
    """Trains, saves, loads and reports; returns whether nothing differed."""
    good = True
    table: dict[str, dict[str, Times]] = {}
    progress.say("starting 4 processes")
    ranks = run_world(train_and_save, 4, progress, folder)
    for name in TRAINED_ON:
        outcomes = [rank[name] for rank in ranks]
        table[f"save, {name}"] = joined(outcomes)
        first, last = outcomes[0].loss
        text = (
            f"{name}: loss {first:.2f} to {last:.2f}; saved by upstream and by ours, "
            "files the same byte for byte, .metadata equal"
        )
        good &= report_job(progress, text, outcomes)

    for size, wanted in LOADED_ON:
        progress.say(f"starting {size} processes")
        ranks = run_world(load_elsewhere, size, progress, folder, wanted)
        outcomes = []
        for name, shape in wanted:
            found = [rank[name] for rank in ranks]
            text = (
                f"{name} to {processes(shape)}: {found[0].tensors} tensors compared bit for bit; "
                "ours by ours, ours by upstream, upstream's by ours"
            )
            good &= report_job(progress, text, found)
            outcomes += found
        where = "the other mesh" if size == 4 else f"{size} processes"
        table[f"load on {where}"] = joined(outcomes)
    print()
    report.print_table(table)
    return good


def joined(outcomes: list[Outcome]) -> dict[str, Times]:
    return {who: report.join_times([found.times[who] for found in outcomes]) for who in SAVERS}


def processes(shape: tuple[int, ...]) -> str:
    return f"{' x '.join(map(str, shape))} processes"


def main() -> int:
    progress = report.Progress()
    try:
        with tempfile.TemporaryDirectory(prefix="shardplan-demo-") as folder:
            good = run(Path(folder), progress)
    except WorldFailed as error:
        progress.note(f"The demo failed: {error}")
        return 1
    print("\nMedian over ranks and rounds, of a tiny model; python -m benchmarks times large ones.")
    print("Nothing differs." if good else "The demo found differences, listed above.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
