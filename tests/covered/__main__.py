"""Which lines of the core, the bindings and the Python package run in the tests and the fuzzers.

    python -m tests.covered core                   # the core, by its tests and by the fuzzers
    python -m tests.covered python tests/parity    # all of shardplan, by these Python tests
    python -m tests.covered report                 # what has run since the last `clean`

`make coverage` builds what this runs, and does all three.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from .report import Run, print_report

ROOT = Path(__file__).parents[2]
DATA = ROOT / "build" / "covered" / "data"
LINES = DATA / "lines"
SITE = ROOT / "build" / "covered" / "site"
CORE = ROOT / "build" / "coverage" / "csrc"


def profile(name: str) -> dict[str, str]:
    """The environment of a process that records in DATA: "%m" is the binary, "%c" at once."""
    LINES.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "LLVM_PROFILE_FILE": str(DATA / f"{name}-%m%c.profraw"),
        "COVERAGE_FILE": str(LINES / "of"),
    }


def run_core() -> None:
    for program in ("core_tests", "core_scale_tests"):
        subprocess.run(
            [CORE / "tests" / program, "--gtest_brief=1"], env=profile("tests"), check=True
        )
    for archive in sorted((ROOT / "csrc" / "fuzz" / "corpus").glob("*.zip")):
        seeds = DATA / "seeds" / archive.stem
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(seeds)
        program = CORE / "fuzz" / f"{archive.stem}_fuzz"
        subprocess.run(
            [program, "-runs=0", "-verbosity=0", seeds],
            env=profile("fuzzers"),
            check=True,
            stderr=subprocess.DEVNULL,
        )


def run_python(arguments: list[str]) -> int:
    environment = profile("python")
    environment["PYTHONPATH"] = str(SITE)
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest", "-q", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.covered")
    parser.add_argument("what", choices=["clean", "core", "python", "report"])
    parser.add_argument("pytest", nargs=argparse.REMAINDER, metavar="ARGUMENT OF PYTEST")
    arguments = parser.parse_args()
    if arguments.what == "clean":
        shutil.rmtree(DATA, ignore_errors=True)
    elif arguments.what == "core":
        run_core()
    elif arguments.what == "python":
        return run_python(arguments.pytest)
    else:
        fuzzers = sorted((CORE / "fuzz").glob("*_fuzz"))
        modules = sorted((SITE / "shardplan").glob("_*.so"))
        tests = [CORE / "tests" / "core_tests", CORE / "tests" / "core_scale_tests"]
        runs = [
            Run("C++ tests", "tests", tests),
            Run("fuzzers", "fuzzers", fuzzers),
            Run("Python tests", "python", modules),
        ]
        print_report(ROOT, DATA, LINES, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
