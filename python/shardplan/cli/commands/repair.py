"""``shardplan repair``: rebuilds a missing ``.metadata`` from what the writer left."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..checkpoint.location import METADATA, why_no_metadata
from ..display.terminal import Terminal
from ..display.wording import bytes_text, counted
from ..failures import CommandError
from ..repairs.of_ranks import ranks_text
from ..repairs.plan import Plan, make_plan
from ..repairs.steps import Step, locked

HELP = "rebuild a missing .metadata from what the writer left, or say what cannot be rebuilt"
EXAMPLE = "shardplan repair checkpoints/step-1000 --dry-run"

# What is put back may have to be repaired in its turn.
_MAX_ROUNDS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a local directory")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be done, and change nothing"
    )
    parser.add_argument(
        "--ignore-times",
        action="store_true",
        help="use metadata that is more than a minute older than the data files it describes, "
        "which are then possibly those of a later save",
    )
    parser.add_argument(
        "--rows", type=int, default=20, help="number of data files to print; default: 20"
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    name = options.checkpoint
    if "://" in name or "::" in name:
        raise CommandError(
            f"{name} is a URL: only a local directory can be repaired, because object stores have "
            f"no renames; copy the checkpoint to a directory, and repair it there"
        )
    if os.path.isfile(name):
        raise CommandError(f"{name} is a file: give the directory of the checkpoint")
    path = os.path.realpath(name)
    if os.path.dirname(path) == path:
        raise CommandError(f"{name} is a root directory, which is not a checkpoint")
    done: list[Step] = []
    wrong: list[str] = []
    plan = make_plan(path, options.ignore_times)
    if not plan.sound:
        # Nothing is changed, and no running save is reported as damage, without the locks.
        with locked(path):
            plan = make_plan(path, options.ignore_times)
            wrong = plan.reasons
            for _ in range(0 if options.dry_run else _MAX_ROUNDS):
                if not plan.steps:
                    break
                for step in plan.steps:
                    step.do()
                done += plan.steps
                plan = make_plan(path, options.ignore_times)
    found = plan.usable or done or plan.metadata_files or plan.data_files
    if not found and os.path.isdir(path):
        raise CommandError(why_no_metadata(name, os.listdir(path)))
    outcome = _outcome(plan, bool(done))
    steps = done or plan.steps
    data = {
        "checkpoint": name,
        "outcome": outcome,
        "dry_run": options.dry_run,
        "sound": plan.sound,
        "steps": [step.as_data() for step in steps],
        "reasons": wrong if plan.usable else plan.reasons,
        "notes": plan.notes,
        "found": plan.as_data(),
    }
    return data, 0 if plan.usable else 1


def _outcome(plan: Plan, changed: bool) -> str:
    if plan.sound:
        return "repaired" if changed else "nothing to repair"
    if plan.steps:
        return "would be repaired"
    return "cannot be repaired"


def show(data: dict[str, Any], out: Terminal, options: argparse.Namespace) -> None:
    if data["steps"]:
        if data["outcome"] != "cannot be repaired":
            out.line("what was wrong:" if data["sound"] else "what is wrong:", "bold")
            for reason in data["reasons"]:
                out.line(f"  {reason}")
        out.line("what would be done:" if options.dry_run else "what was done:", "bold")
        for step in data["steps"]:
            out.line(f"  {step['text']}")
        out.line()
    for note in data["notes"]:
        out.line(note)
    name = data["checkpoint"]
    if data["outcome"] == "nothing to repair":
        out.good(f"{name} is sound: nothing to repair")
    elif data["outcome"] == "repaired":
        out.good(f"{name} is repaired, and sound (no tensor was read; verify --deep does that)")
    elif data["outcome"] == "would be repaired":
        out.good(f"{name} can be repaired; nothing was changed")
    else:
        _show_remains(data, out, max(options.rows, 0))


def _show_remains(data: dict[str, Any], out: Terminal, rows: int) -> None:
    out.bad(f"{data['checkpoint']} cannot be repaired:")
    for reason in data["reasons"]:
        out.line(f"  {reason}")
    found = data["found"]
    files = found["data_files"]
    if files:
        total = sum(one["bytes"] for one in files)
        out.heading(f"{counted(len(files), 'data file')} of {bytes_text(total)}:")
        out.table(("bytes", "file"), [(f"{one['bytes']:,}", one["name"]) for one in files[:rows]])
        out.more(len(files) - rows)
    if gaps := found["ranks_without_data"]:
        ranks = ", ".join(ranks_text(first, last) for first, last in gaps[:rows])
        more = f" and {len(gaps) - rows:,} more" if len(gaps) > rows else ""
        out.line(f"no data file of {ranks}{more}, which a rank that had nothing to save lacks, too")
    out.line()
    if files and METADATA not in found["metadata_files"]:
        out.line(
            "Data files have the values of tensors, and neither their names nor their places in "
            "larger tensors. These are only in the metadata, so they cannot be rebuilt from data "
            "files."
        )
    elif METADATA in found["metadata_files"]:
        out.line("'shardplan verify' shows what can still be loaded.")
