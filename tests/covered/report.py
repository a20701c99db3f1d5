"""Tables of the lines that run, by folder, and a list of those that do not."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

#: By file and line: the times that the line has run.
Counts = dict[Path, dict[int, int]]


@dataclasses.dataclass(frozen=True)
class Run:
    """Programs that ran, and the beginning of the names of their profiles."""

    title: str
    profiles: str
    programs: list[Path]


def native_counts(run: Run, root: Path, data: Path) -> Counts:
    """The lines of csrc/core and csrc/bindings that are in the programs of a run."""
    profiles = sorted(data.glob(f"{run.profiles}-*.profraw"))
    if not profiles:
        return {}
    merged = data / f"{run.profiles}.profdata"
    subprocess.run(["llvm-profdata-19", "merge", *profiles, "-o", merged], check=True)
    first, *others = run.programs
    command: list[str | Path] = ["llvm-cov-19", "export", "-format=lcov", first]
    command += itertools.chain.from_iterable(("-object", other) for other in others)
    exported = subprocess.run(
        [*command, f"-instr-profile={merged}"], check=True, stdout=subprocess.PIPE, text=True
    )
    counts: Counts = {}
    of_file: dict[int, int] = {}
    for line in exported.stdout.splitlines():
        key, _, value = line.partition(":")
        if key == "SF":
            path = Path(value)
            of_file = {}
            if any(root / "csrc" / part in path.parents for part in ("core", "bindings")):
                of_file = counts.setdefault(path.relative_to(root), {})
        elif key == "DA":
            number, times = value.split(",")[:2]
            of_file[int(number)] = of_file.get(int(number), 0) + int(times)
    return counts


def python_counts(folder: Path) -> Counts:
    """The lines of the package, wherever the process that ran them had it installed."""
    if not folder.exists():
        return {}
    environment = {**os.environ, "COVERAGE_FILE": str(folder / "of")}
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "combine", "-q", "--keep", folder], env=environment, check=True)
    found = folder / "lines.json"
    subprocess.run([*coverage, "json", "-q", "-o", found], env=environment, check=True)
    counts: Counts = collections.defaultdict(dict)
    for name, file in json.loads(found.read_text())["files"].items():
        path = Path("python", "shardplan", name.rpartition("/shardplan/")[2])
        for number in file["missing_lines"]:
            counts[path].setdefault(number, 0)
        counts[path] |= dict.fromkeys(file["executed_lines"], 1)
    return counts


def folder_of(path: Path) -> str:
    """The folder of a file, down to a topic: csrc/core/wire, python/shardplan/cli."""
    return "/".join(path.parent.parts[:3])


def share(covered: int, lines: int) -> str:
    return f"{100 * covered / lines:.1f} %" if lines else "-"


def print_table(runs: list[tuple[str, Counts]], inside: str) -> Counts:
    """Prints, by folder, the share of lines that run in each run and in any; returns the latter."""
    total: Counts = collections.defaultdict(dict)
    for path, number, times in lines_of(counts for _, counts in runs):
        if path.as_posix().startswith(inside):
            total[path][number] = total[path].get(number, 0) + times
    titles = [title for title, _ in runs]
    print(f"\n{'':34}{'lines':>7}" + "".join(f"{title:>14}" for title in [*titles, "any"]))
    folders = sorted({folder_of(path) for path in total})
    for folder in [*folders, ""]:
        files = [path for path in total if folder in ("", folder_of(path))]
        lines = sum(len(total[path]) for path in files)
        shares = [
            share(
                sum(
                    counts.get(path, {}).get(number, 0) > 0
                    for path in files
                    for number in total[path]
                ),
                lines,
            )
            for counts in (*(counts for _, counts in runs), total)
        ]
        print(f"{folder or 'all':34}{lines:>7,}" + "".join(f"{text:>14}" for text in shares))
    return total


def lines_of(all_counts: Iterable[Counts]) -> Iterable[tuple[Path, int, int]]:
    for counts in all_counts:
        for path, of_file in counts.items():
            for number, times in of_file.items():
                yield path, number, times


def ranges(numbers: list[int]) -> str:
    """Writes ascending numbers as "3, 7-9"."""
    parts = []
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ", ".join(parts)


def print_report(root: Path, data: Path, lines: Path, runs: list[Run]) -> None:
    native = [(run.title, native_counts(run, root, data)) for run in runs]
    totals = [print_table(native, "csrc/core")]
    totals.append(print_table(native[-1:], "csrc/bindings"))
    totals.append(print_table([("Python tests", python_counts(lines))], "python"))
    missing = data.parent / "missing.txt"
    with missing.open("w") as out:
        for total in totals:
            for path in sorted(total):
                numbers = sorted(number for number, times in total[path].items() if not times)
                if numbers:
                    out.write(f"{path}: {ranges(numbers)}\n")
    print(f"\nThe lines that did not run are in {missing.relative_to(root)}")
