"""python -m tests.pytorch CHECKOUT [FILE...]: compares shardplan with upstream.

Each test file of test/distributed/checkpoint in a PyTorch checkout runs three times: on upstream
torch, with shardplan registered, and with shardplan's classes under upstream's names, too. The
program prints the tests whose outcomes differ, and fails if there are any.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import signal
import sys
import time
from pathlib import Path

from . import report, running
from .outcomes import FileRun
from .running import Way

_TESTS = Path("test", "distributed", "checkpoint")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.pytorch", description=__doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of PyTorch")
    parser.add_argument("files", nargs="*", help=f"test files, relative to {_TESTS} (default: all)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one run of a file")
    parser.add_argument(
        "--any-version",
        action="store_true",
        help="go on if the checkout's version is not that of the installed torch",
    )
    chosen = parser.parse_args(arguments)
    checkout = chosen.checkout.resolve()
    folder = checkout / _TESTS
    if not folder.is_dir():
        parser.error(f"{chosen.checkout} is not a checkout of PyTorch: it has no {_TESTS}")
    problem = misfit(checkout)
    if problem is not None and not chosen.any_version:
        parser.error(f"{problem}; --any-version goes on all the same")
    files = [folder / name for name in chosen.files] or sorted(folder.rglob("test_*.py"))
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}")
    return compare(checkout, files, chosen.timeout)


def misfit(checkout: Path) -> str | None:
    """Returns what is wrong if the checkout does not fit the installed torch."""
    installed = importlib.metadata.version("torch")
    try:
        version = (checkout / "version.txt").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "the checkout has no version.txt"
    if version.split(".")[:2] == installed.split(".")[:2]:
        return None
    return f"the checkout is PyTorch {version}, but torch {installed} is installed"


def compare(checkout: Path, files: list[Path], timeout: float) -> int:
    """Runs the files, prints what differs, and returns the exit code."""
    runs: list[dict[Way, FileRun]] = []
    found: list[report.Difference] = []
    for file in files:
        by_way: dict[Way, FileRun] = {}
        for way in Way:
            start = time.monotonic()
            by_way[way] = running.run(checkout, file, way, timeout)
            _print_run(file.relative_to(checkout / _TESTS), way, by_way[way], start)
        runs.append(by_way)
        for failure in report.failures_of_upstream(by_way):
            print(f"fails on upstream: {failure}", flush=True)
        for difference in report.differences(by_way):
            found.append(difference)
            print(f"DIFFERENCE {difference}", flush=True)
    print(report.summary(runs))
    if not any(done.outcomes for by_way in runs for done in by_way.values()):
        print("ERROR: no test was run")
        return 1
    print(f"{len(found)} differences")
    for difference in found:
        print(
            f"  {difference.test}: {difference.upstream}, {difference.ours} with {difference.way}"
        )
    return 1 if found else 0


def _print_run(file: Path, way: Way, done: FileRun, start: float) -> None:
    seconds = time.monotonic() - start
    print(f"{file} {way}: {report.numbers([done])} in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    # Unwinds the stack, which ends the processes of the run and removes its folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
