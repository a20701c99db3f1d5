"""Random state dicts, saved and loaded by real processes, shardplan against upstream.

usage: python -m soak [--minutes M] [--rounds N] [--seed S] [--sizes 1 2 3 ...]

The seed of a round decides everything in it. One world of processes saves a state dict with
upstream and in other ways, and another world loads the checkpoints into other meshes, placements
and dtypes. All files and all loaded bits must be the same, exceptions included. Beside each such
round, the plans of a larger world are compared in this process.

The run ends when the time is up, or at the first difference, with status 1 and the command that
repeats the round.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from distributed.world import Worlds

from . import disk, jobs, planning, totals
from .rounds import Round

#: Seconds for a save or a load of a world, after which it counts as hung.
DEADLINE = 120


def run(round_: Round, worlds: Worlds, base: Path, done: totals.Totals) -> None:
    """Runs one round in ``base``, and raises an error if anything differs."""
    reports = worlds[round_.savers].run(jobs.save, round_, base, timeout=DEADLINE)
    done.add(reports)
    if not reports[0].saved:
        return
    done.bytes += disk.size_of(base)
    disk.compare(round_, base)
    if round_.damage:
        disk.damage(round_, base)
    done.add(worlds[round_.loaders].run(jobs.load, round_, base, timeout=DEADLINE))


def soak(seeds: range, end: float, sizes: tuple[int, ...], folder: Path) -> int:
    """Runs the rounds of ``seeds`` until ``end``. Returns the exit status."""
    worlds, done = Worlds(folder), totals.Totals()
    next_line = time.monotonic() + 60
    try:
        for seed in seeds:
            if time.monotonic() > end:
                break
            round_ = Round.of(seed, sizes)
            with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as base:
                try:
                    planning.a_round(seed)
                    run(round_, worlds, Path(base), done)
                except Exception:
                    traceback.print_exc(file=sys.stdout)
                    print(totals.describe(round_), disk.describe(Path(base)), sep="\n")
                    command = f"python -m soak --rounds 1 --seed {seed} --sizes"
                    command = " ".join([command, *map(str, sizes)])
                    print(f"The round of seed {seed} differs, after {done.rounds:,} others. Repeat")
                    print(f"it with PYTHONPATH=tests:  {command}")
                    return 1
            done.rounds += 1
            done.planned += 1
            if time.monotonic() >= next_line:
                print(done.line(), flush=True)
                next_line += 60
        print("No difference.")
        return 0
    finally:
        print(done.line(), *done.kinds_of_errors(), *done.growth(), sep="\n", flush=True)
        worlds.close()


def _terminate(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m soak")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--rounds", type=int, default=sys.maxsize >> 8)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, _terminate)
    seeds = range(options.seed, options.seed + options.rounds)
    end = time.monotonic() + 60 * options.minutes
    print(f"seed {options.seed}, worlds of {', '.join(map(str, options.sizes))}", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="shardplan-soak-") as folder:
            return soak(seeds, end, tuple(options.sizes), Path(folder))
    except KeyboardInterrupt:
        print("interrupted")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
