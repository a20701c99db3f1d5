"""``python -m benchmarks``: shardplan and the installed torch, in one process and one run."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import shardplan

from .agreement import Disagreement
from .background_cases import background
from .caching_cases import caching
from .command_cases import commands
from .coordinator_cases import coordinator
from .gloo_cases import gloo_save
from .harness import Row, show_table
from .kept_plan_cases import kept_plans
from .load_cases import load
from .plan_cases import local_load_plans, local_save_plans
from .plot import draw, require_matplotlib
from .rank_cases import RANKS, ranks
from .read_cases import read_items, strided_chunk
from .save_cases import save
from .scaling import Curve, curves
from .storage_cases import storage
from .validate_cases import growth, small_dim

Case = Callable[[bool], Iterator[Row]]

CASES: dict[str, Case] = {
    "validate": small_dim,
    "growth": growth,
    "reads": read_items,
    "chunk": strided_chunk,
    "save-plans": local_save_plans,
    "load-plans": local_load_plans,
    "coordinator": coordinator,
    "caching": caching,
    "storage": storage,
    "kept-plans": kept_plans,
    "load": load,
    "save": save,
    "background": background,
    "commands": commands,
    "gloo": gloo_save,
    "ranks": ranks,
}

HOW = """
Each time is the least of several. Both implementations run in turn, on one thread, with the garbage
collector on. A time includes the collections that the call triggers, but not the freeing of its
result. Before timing, the results were checked to be equal: every item, the order, the chunk
indices. "(once)": upstream was timed in the call that checked the result.
"""


def main(arguments: list[str] | None = None) -> int:
    """Prints the table. Returns 1 if results disagree; a missed target is only printed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="also run the sizes that take longer")
    parser.add_argument(
        "--only", action="append", choices=CASES, help="run only these rows (repeatable)"
    )
    parser.add_argument(
        "--ranks", type=int, default=RANKS, metavar="N", help="processes of the row 'ranks'"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the table and the curves as JSON"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw scaling curves")
    options = parser.parse_args(arguments)
    if options.plot is not None and (problem := require_matplotlib()) is not None:
        parser.error(problem)

    # torchrun sets this too. For such small tensors, more threads only wait for each other.
    torch.set_num_threads(1)
    started = time.perf_counter()
    rows: list[Row] = []
    drawn: list[Curve] = []
    failures: list[str] = []
    cases: dict[str, Case] = {**CASES, "ranks": functools.partial(ranks, count=options.ranks)}
    for name in options.only or cases:
        progress(f"{name} ...")
        try:
            for row in cases[name](options.full):
                rows.append(row)
                progress(f"{name}: {row.cells()[3]}  {row.work}")
        except Disagreement as difference:
            failures.append(f"{name}: {difference}")
    if options.plot is not None:
        progress("scaling curves ...")
        try:
            drawn = curves(options.full, progress)
            draw(drawn, options.plot, machine())
        except Disagreement as difference:
            failures.append(f"curves: {difference}")

    print(show_table(rows))
    print(HOW)
    print(f"{machine()}; {time.perf_counter() - started:.0f} s in all")
    if options.json is not None:
        options.json.write_text(json.dumps(report(rows, drawn, failures, options.full), indent=1))
    for failure in failures:
        print(f"DISAGREEMENT in {failure}", file=sys.stderr)
    return 1 if failures else 0


def progress(line: str) -> None:
    """Prints progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def machine() -> str:
    """Describes the machine of the measurements."""
    return (
        f"{processor()}, {os.cpu_count()} CPUs, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def processor() -> str:
    """The processor's name if the system reports it, otherwise its type."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def report(rows: list[Row], drawn: list[Curve], failures: list[str], full: bool) -> dict[str, Any]:
    """All measurements, for programs."""
    return {
        "machine": machine(),
        "build": shardplan.build_info(),
        "full": full,
        "rows": [
            {
                "kind": type(row).__name__.lower(),
                **dataclasses.asdict(row),
                "ratio": row.ratio,
                "passed": row.passed,
            }
            for row in rows
        ],
        "curves": [dataclasses.asdict(curve) for curve in drawn],
        "failures": failures,
    }


if __name__ == "__main__":
    sys.exit(main())
