"""References and resident memory after many rounds of planning, failing, reading and writing.

usage: python -m leaks [--rounds N] [--warm-up N] [NAME ...]

Each kind of round runs in a process of its own. The exit status is 1 if one of them leaks.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging

from .growth import ROUNDS, measure, measure_apart


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m leaks")
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--warm-up", type=int, default=2_000)
    parser.add_argument("--here", action="store_true", help="in this process, as plain numbers")
    parser.add_argument("names", nargs="*", default=list(ROUNDS))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.here:
        for name in options.names:
            growth = measure(name, options.rounds, options.warm_up)
            print(*dataclasses.astuple(growth), flush=True)
        return 0
    leaks = 0
    print(f"growth over {options.rounds:,} rounds, after {options.warm_up:,}")
    for name in options.names:
        growth = measure_apart([name], options.rounds, options.warm_up, timeout=3600)[name]
        faults = growth.faults()
        leaks += bool(faults)
        print(
            f"{name:32}{growth.resident / 1024:+9,.0f} KiB{growth.objects:+7,} objects"
            f"{growth.files:+4} files{growth.threads:+4} threads{growth.seconds:8.1f} s"
            f"  {'LEAKS ' + ', '.join(faults) if faults else 'flat'}",
            flush=True,
        )
    return min(leaks, 1)


if __name__ == "__main__":
    raise SystemExit(main())
