"""Gives faults to real processes, with torch and with shardplan, and checks what becomes of them.

    python -m tests.faults [--count 2000] [--seed 0] [--only INDEX ...] [--at-once 4]

Each fault is drawn: a rank of a save or load is killed, stopped, slowed down, fails or loses its
directory, in a step or at a call for a file. The same fault is run with torch and with shardplan.
The exit status is 1 if shardplan breaks a rule (``rules.py``).
"""

from __future__ import annotations

import argparse
import functools
import gc
import random
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import interposer


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=2000, help="of faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", metavar="INDEX", help="these faults")
    parser.add_argument("--at-once", type=int, default=4, help="of worlds")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    interposer.restart_with_library()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    warnings.simplefilter("ignore")
    try:
        return run(options)
    finally:
        interposer.remove_library()


def run(options: argparse.Namespace) -> int:
    from .checkpoint import TORCH, VARIANTS, warm_up
    from .fault import FILE_CALL, OPERATIONS, draw
    from .report import Report
    from .rules import broken
    from .world import Outcome, World, run_worlds

    folder = Path(tempfile.mkdtemp(prefix="shardplan-faults-template-"))
    try:
        warm_up(folder / "warm")
        gc.freeze()  # A collection in a forked rank would copy the whole heap.
        template = make_template(folder)

        def world(operation: str, variant: str, fault: Any = None, call: int = -1) -> World:
            before = None if operation == "save" else template
            return World(operation, variant, fault, call, before)

        calls: dict[tuple[str, str], list[str]] = {}
        keys = [(operation, variant) for operation in OPERATIONS for variant in VARIANTS[operation]]
        healthy = ((key, functools.partial(world, *key)) for key in keys)
        for key, outcome in run_worlds(healthy, options.at_once):
            wanted = "old" if key[0] == "load" else "new"
            if outcome.contents != wanted or {end.how for end in outcome.ranks} != {"returned"}:
                print(f"without a fault, {key} ends with {outcome}", file=sys.stderr)
                return 1
            calls[key] = [end.note["calls"] for end in outcome.ranks]

        chosen = options.only if options.only else range(options.count)
        faults = {index: draw(random.Random(f"{options.seed}/{index}")) for index in chosen}

        def wanted_worlds() -> Iterator[tuple[Any, Callable[[], World]]]:
            for index, fault in faults.items():
                for variant in VARIANTS[fault.operation]:
                    count = len(calls[fault.operation, variant][fault.rank])
                    call = int(fault.fraction * count) if fault.place == FILE_CALL else -1
                    yield (
                        (index, variant),
                        functools.partial(world, fault.operation, variant, fault, call),
                    )

        report = Report(VARIANTS["save"])
        waiting: dict[int, dict[str, Outcome]] = {}
        try:
            for (index, variant), outcome in run_worlds(wanted_worlds(), options.at_once):
                fault = faults[index]
                outcomes = waiting.setdefault(index, {})
                outcomes[variant] = outcome
                if len(outcomes) < len(VARIANTS[fault.operation]):
                    continue
                del waiting[index]
                for name, each in outcomes.items():
                    wrong = broken(fault, name, each, outcomes[TORCH])
                    report.add(index, fault, name, each, wrong)
        finally:
            print(report)  # also of a run that is interrupted
        return int(report.is_broken)
    finally:
        shutil.rmtree(folder)


def make_template(folder: Path) -> Path:
    """Saves the old checkpoint, with torch, and returns its directory."""
    from .checkpoint import OLD, TORCH
    from .world import World, wait_for

    world = World("save", TORCH, value=OLD)
    wait_for(world)
    path = folder / "old"
    shutil.copytree(world.checkpoint, path)
    world.close()
    return path


if __name__ == "__main__":
    sys.exit(main())
