"""Runs cases on every rank of a world that torchrun started; rank 0 prints a line of JSON for each.

    torchrun --nproc-per-node 2 -m tests.callers.harness CASE ... --entries 6000 --rounds 3

The code of the caller is the same for upstream and for shardplan, which is only registered.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import importlib.metadata
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist

import shardplan
from shardplan.dcp import fallbacks as fallbacks_module
from shardplan.testing import call_count

from .case import Case, describe
from .comparison import copied, count_entries, file_differences, tensor_differences, unchanged
from .result import AGAIN, OURS, UPSTREAM, Result
from .training import change


def on_all_ranks(values: Any) -> list[Any]:
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, values)
    return found


def seconds(action: Callable[[], None]) -> float:
    """Returns how long all ranks together took for an action."""
    gc.collect()
    dist.barrier()
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    dist.barrier()
    return time.perf_counter() - start


class Run:
    """One case in this world, with the folder that its ranks share."""

    def __init__(
        self, case: Case, folder: Path, result: Result, entries: int, results_ordered: bool
    ) -> None:
        self.case = case
        self.results_ordered = results_ordered
        self.folder = folder
        self.result = result
        self.state = case.prepare(result.device, entries)
        self.expected = copied(case.tensors(self.state))
        result.tensors = len(self.expected)

    def problem(self, text: str) -> None:
        """Notes on every rank that a check failed."""
        self.result.problems.append(text)

    @contextlib.contextmanager
    def using(self, who: str) -> Iterator[None]:
        """Registers shardplan if it is its turn."""
        if who != OURS:
            yield
            return
        done = shardplan.register()
        try:
            yield
        finally:
            shardplan.unregister()
        if done.unreached and not self.result.notes:
            self.result.notes.append(f"not replaced: {', '.join(done.unreached)}")

    @contextlib.contextmanager
    def counting(self, folder: Path, what: str) -> Iterator[None]:
        """Registers shardplan, and counts its calls and the fallbacks of this rank."""
        folder.mkdir(exist_ok=True)
        dist.barrier()
        before = Counter(shardplan.fallbacks())
        call_count.install(str(folder))
        try:
            yield
        finally:
            shardplan.unregister()
            fallbacks_module.observe(None)
        dist.barrier()
        calls, processes = call_count.read(str(folder))
        if processes < dist.get_world_size():
            self.problem(f"{what}: shardplan ran in {processes} processes only")
        self.result.calls = dict(Counter(self.result.calls) + calls)
        for rank in on_all_ranks(Counter(shardplan.fallbacks()) - before):
            self.result.fallbacks = dict(Counter(self.result.fallbacks) + rank)

    def check_loaded(self, what: str) -> None:
        differing = tensor_differences(self.case.tensors(self.state), self.expected)
        if differing:
            self.problem(f"{what}: {len(differing)} tensors differ, like {differing[0]}")

    def load_scrambled(self, path: Path, what: str) -> float:
        """Loads into a state that has other values, compares it, and returns the time."""
        change(self.case.tensors(self.state).values())
        kept = unchanged(self.case.tensors(self.state), self.expected)
        if kept:
            self.problem(f"{what}: {len(kept)} tensors were not scrambled, like {kept[0]}")
        taken = seconds(lambda: self.case.load(self.state, path))
        self.check_loaded(what)
        return taken

    def check(self) -> dict[str, Path]:
        """Saves by all, compares the files, and loads each checkpoint by each of the two."""
        folders = {who: self.folder / who for who in (UPSTREAM, OURS, AGAIN)}
        for who, path in folders.items():
            counting = self.counting(self.folder / "save calls", "save")
            with counting if who == OURS else contextlib.nullcontext():
                seconds(lambda path=path: self.case.save(self.state, path))  # type: ignore[misc]
            self.check_loaded(f"the state after the save by {who}")
        self.compare_files(folders)
        for saver in (UPSTREAM, OURS):
            with self.using(UPSTREAM):
                self.load_scrambled(folders[saver], f"saved by {saver}, loaded by {UPSTREAM}")
            counting = self.counting(self.folder / f"load calls {saver}", f"load of {saver}")
            with counting if saver == OURS else self.using(OURS):
                self.load_scrambled(folders[saver], f"saved by {saver}, loaded by {OURS}")
        self.result.entries = count_entries(folders[UPSTREAM])
        return folders

    def compare_files(self, folders: dict[str, Path]) -> None:
        """The files of both must be equal, except those in which two upstream saves differ too."""
        dist.barrier()
        if dist.get_rank() != 0:
            return
        expected, ordered = folders[UPSTREAM], self.results_ordered
        differing = set(file_differences(folders[OURS], expected, ordered))
        always = set(file_differences(folders[AGAIN], expected, ordered))
        for name in sorted(differing - always):
            self.problem(f"the file {name} differs")
        if always:
            self.result.notes.append(
                f"differ in two upstream saves too: {', '.join(sorted(always))}"
            )

    def time(self, rounds: int, checkpoint: Path) -> None:
        """Saves and loads by turns. The shortest time of each counts."""
        for count in range(rounds):
            for who in (UPSTREAM, OURS, AGAIN):
                path = self.folder / f"{who} {count}"
                with self.using(who):
                    taken = seconds(lambda path=path: self.case.save(self.state, path))  # type: ignore[misc]
                self.note_time(self.result.save, who, taken)
                if dist.get_rank() == 0:
                    shutil.rmtree(path)
            for who in (UPSTREAM, OURS, AGAIN):
                with self.using(who):
                    taken = self.load_scrambled(checkpoint, f"timed load by {who}")
                self.note_time(self.result.load, who, taken)

    @staticmethod
    def note_time(times: dict[str, float], who: str, taken: float) -> None:
        times[who] = min(taken, times.get(who, taken))


def start_world(device: str) -> None:
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        torch.set_num_threads(1)
    # Saving in the background needs a group for the CPU.
    dist.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl")


def run(name: str, options: argparse.Namespace) -> Result:
    """Runs a case in this world. The result has the problems of all ranks."""
    description = describe(name)
    case = cast(Case, importlib.import_module(f".cases.{name}", __package__))
    version = importlib.metadata.version(description.package)
    result = Result(name, version, torch.__version__, options.device, dist.get_world_size())
    folders = [tempfile.mkdtemp(prefix="shardplan-callers-") if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(folders)
    folder = Path(cast(str, folders[0]))
    try:
        run = Run(case, folder, result, options.entries, description.results_ordered)
        checkpoints = run.check()
        if options.rounds:
            run.time(options.rounds, checkpoints[UPSTREAM])
        found = on_all_ranks(result.problems)
        result.problems = sorted({problem for problems in found for problem in problems})
    finally:
        if dist.get_rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", metavar="CASE")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--entries", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    start_world(options.device)
    for name in options.cases:
        result = run(name, options)
        if dist.get_rank() == 0:
            print(result.to_json(), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
