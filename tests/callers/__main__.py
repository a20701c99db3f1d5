"""Runs every caller on upstream and on shardplan, side by side, and prints a table.

    python -m tests.callers [--only NAME ...] [--ranks 2 4] [--device cuda] [--here]

The exit status is 1 if a check failed: files or tensors differ, or shardplan did not run.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from .case import Description, describe, names
from .environments import environment
from .result import Result, table
from .world import run_cases


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.callers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="*", choices=names(), metavar="NAME", help="these callers")
    parser.add_argument("--ranks", nargs="+", type=int, default=[2, 4], help="sizes of the worlds")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--entries", type=int, default=6000, help="at least, in a checkpoint")
    parser.add_argument("--rounds", type=int, default=3, help="of timing; the shortest counts")
    parser.add_argument("--here", action="store_true", help="in this interpreter's environment")
    parser.add_argument("--log", type=Path, help="append what the processes print to this file")
    return parser.parse_args(arguments)


def run_all(case: Description, options: argparse.Namespace) -> list[Result]:
    """Runs one case in worlds of each size, and says how it went."""
    python = sys.executable if options.here else environment(case.requirements)
    results = []
    for ranks in case.ranks or options.ranks:
        print(f"{case.name}, {ranks} ranks ... ", end="", file=sys.stderr, flush=True)
        found, output = run_cases(
            [case.name],
            ranks,
            python=python,
            device=options.device,
            entries=options.entries,
            rounds=options.rounds,
        )
        if options.log:
            with options.log.open("a", encoding="utf-8") as log:
                log.write(f"== {case.name}, {ranks} ranks\n{output}\n")
        raised = Result(case.name, "", "", options.device, ranks, problems=[output])
        result = found[0] if found else raised
        print("failed" if result.problems else "done", file=sys.stderr)
        for text in result.problems:
            print(f"  WRONG: {text}", file=sys.stderr)
        for text in result.notes:
            print(f"  note: {text}", file=sys.stderr)
        results.append(result)
    return results


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the world ends with this process
    rows = []
    for case in map(describe, options.only or names()):
        if options.device not in case.devices:
            print(f"{case.name} does not run on {options.device}: skipped", file=sys.stderr)
            continue
        rows += [(result, case.what) for result in run_all(case, options)]
    print(table(rows))
    return int(any(result.problems for result, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
