"""Builds shardplan for releases of torch and Python, tests each build, and prints a table.

    python tests/matrix.py --torch 2.11.0 2.14.1 --python 3.11 3.12 [--tests parity contract]

Each pair has a virtual environment of its own, one at a time. It is removed after its tests, since
a torch with CUDA takes 5 GB. The exit status is 1 if a build or a test failed. A pair for which the
index has no torch is shown in the table, and is no failure.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
TORCHES = ("2.11.0", "2.12.1", "2.13.0", "2.14.1")
# These tests need the installed package only. Those of `packaging` build it again, and those of
# `callers` and `pytorch` test tools of this repository.
TESTS = ("parity", "contract", "property", "cli", "plugin", "distributed")
_HOUR = 3600
_NO_RELEASE = "No matching distribution found for torch=="


@dataclasses.dataclass
class Row:
    """What was found for one release of torch and one of Python."""

    torch: str
    python: str
    found: str = "not run"
    is_failure: bool = False
    seconds: float = 0.0
    failed_tests: list[str] = dataclasses.field(default_factory=list)


class Pair:
    """The environment of one release of torch and one of Python."""

    def __init__(self, row: Row, folder: Path, tests: list[str], log: Path) -> None:
        self.row = row
        self.folder = folder
        self.tests = tests
        self.log = log
        self.python = folder / "venv" / "bin" / "python"

    def run(self, *command: str | Path, cwd: Path = SOURCE) -> str | None:
        """Runs a command. Returns None if it succeeded, or else the last lines of its output."""
        with self.log.open("a+", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(map(str, command))}\n")
            log.flush()
            start = log.tell()
            done = subprocess.run(
                [str(part) for part in command],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=_HOUR,
            )
            log.seek(start)
            output = log.read()
        return None if done.returncode == 0 else output[-4000:]

    def pip(self, *arguments: str | Path) -> str | None:
        return self.run(self.python, "-m", "pip", "install", "-q", *arguments)

    def fail(self, what: str) -> None:
        self.row.found, self.row.is_failure = what, True

    def build(self) -> bool:
        """Installs torch, and then shardplan, built against it. Returns whether both succeeded."""
        interpreter = shutil.which(f"python{self.row.python}")
        if interpreter is None or self.run(interpreter, "-c", "import venv, ensurepip"):
            self.row.found = f"no python{self.row.python} here"
            return False
        if self.run(interpreter, "-m", "venv", self.folder / "venv"):
            self.fail("the environment cannot be created")
            return False
        error = self.pip(f"torch=={self.row.torch}")
        if error is not None:
            self.row.found = "the index has no such torch"
            if _NO_RELEASE not in error:
                self.fail("torch cannot be installed")
            return False
        error = self.pip(f"-Cbuild-dir={self.folder / 'build'}", f"{SOURCE}[test]")
        if error is not None:
            self.fail("the build failed")
        return error is None

    def test(self) -> None:
        report = self.folder / "report.xml"
        options = ["-q", "-n", "2", "--dist", "loadfile", "-p", "no:cacheprovider", "-W", "ignore"]
        command = [self.python, "-m", "pytest", *options, f"--junitxml={report}", *self.tests]
        start = time.monotonic()
        error = self.run(*command, cwd=SOURCE / "tests")
        self.row.seconds = time.monotonic() - start
        if not report.exists():
            self.fail("pytest wrote no report")
            return
        self.read_report(report)
        self.row.is_failure = self.row.is_failure or error is not None

    def read_report(self, report: Path) -> None:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
        skipped = [case for case in cases if case.find("skipped") is not None]
        failed = [
            case
            for case in cases
            if case.find("failure") is not None or case.find("error") is not None
        ]
        passed = len(cases) - len(skipped) - len(failed)
        self.row.found = f"{passed:,} passed, {len(failed)} failed, {len(skipped)} skipped"
        self.row.failed_tests = [f"{case.get('classname')}::{case.get('name')}" for case in failed]


def table(rows: list[Row]) -> str:
    lines = ["| torch | Python | tests | minutes |", "|---|---|---|---|"]
    lines += [
        f"| {row.torch} | {row.python} | {row.found} | {row.seconds / 60:.0f} |" for row in rows
    ]
    return "\n".join(lines)


def run_pair(row: Row, options: argparse.Namespace) -> None:
    log = options.logs / f"torch-{row.torch}-python-{row.python}.log"
    log.unlink(missing_ok=True)
    print(f"torch {row.torch}, Python {row.python} ... ", end="", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="shardplan-matrix-") as folder:
        pair = Pair(row, Path(folder), options.tests, log)
        try:
            if pair.build():
                pair.test()
        except subprocess.TimeoutExpired as error:
            pair.fail(f"no end after {error.timeout / 60:.0f} minutes")
    print(row.found, file=sys.stderr)
    for test in row.failed_tests:
        print(f"  FAILED {test}", file=sys.stderr)
    if row.is_failure:
        print(f"  see {log}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser.add_argument("--torch", nargs="+", default=TORCHES, metavar="X.Y.Z", help="releases")
    parser.add_argument("--python", nargs="+", default=[here], metavar="X.Y", help="versions")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="folders or files in tests/")
    parser.add_argument("--logs", type=Path, default=SOURCE / "build" / "matrix", help="a folder")
    options = parser.parse_args(arguments)
    options.logs.mkdir(parents=True, exist_ok=True)
    rows = [Row(torch, python) for torch in options.torch for python in options.python]
    for row in rows:
        run_pair(row, options)
    print(table(rows))
    return int(any(row.is_failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
