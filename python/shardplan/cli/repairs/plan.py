"""Decides what can be repaired, and by which steps."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoint.entries import rank_of_file
from ..checkpoint.location import METADATA, Folder
from ..failures import CommandError
from . import of_ranks, steps
from .of_ranks import OfRanks
from .soundness import judge
from .steps import TEMPORARY, Step

_DATA_FILE = re.compile(r"__[0-9]+_[0-9]+\.distcp")
_METADATA_FILE = re.compile(r"(__[0-9]+)?\.metadata(\.tmp)?")


@dataclass
class Plan:
    """What there is of a checkpoint, and what can be done.

    Attributes:
        sound: whether the checkpoint is sound as it is.
        steps: the steps that repair it; empty if it is sound or cannot be repaired.
        reasons: what is wrong or cannot be used, one line each; empty if the checkpoint is sound.
        notes: what else the user should know, one line each.
        missing_ranks: (first, last) of each range of ranks whose metadata is missing.
        data_files: (name, bytes) of each data file.
        metadata_files: names of the metadata files.
    """

    sound: bool = False
    steps: list[Step] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing_ranks: list[tuple[int, int]] = field(default_factory=list)
    data_files: list[tuple[str, int]] = field(default_factory=list)
    metadata_files: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether the checkpoint is sound, or will be after the steps."""
        return self.sound or bool(self.steps)

    def as_data(self) -> dict[str, Any]:
        """Returns what was found as it appears in ``--json``."""
        ranks = {rank for name, _ in self.data_files if (rank := rank_of_file(name)) is not None}
        return {
            "metadata_files": self.metadata_files,
            "data_files": [{"name": name, "bytes": size} for name, size in self.data_files],
            "missing_ranks": [list(each) for each in self.missing_ranks],
            "ranks_without_data": [
                list(each) for each in of_ranks.gaps(ranks, max(ranks, default=-1))
            ],
        }


def make_plan(path: str, ignore_times: bool) -> Plan:
    """Looks at a checkpoint and at the directories that a save with ``atomic=True`` leaves.

    Args:
        path: the real path of the checkpoint, which need not exist.
        ignore_times: whether data files may be newer than the metadata that describes them.

    Raises:
        CommandError: there is nothing of a checkpoint, or the system cannot read a file.
    """
    saving, replaced = _siblings(path)
    there = os.path.isdir(path)
    if there:
        plan = _of_directory(path, ignore_times, True)
        if plan.sound:
            plan.notes += [_mention(each) for each in (saving, replaced) if each.is_dir()]
            return plan
    elif os.path.lexists(path):
        raise CommandError(f"{path} is not a directory")
    else:
        plan = Plan(reasons=[f"{path} does not exist"])
    written = _of_directory(str(saving), ignore_times, False) if saving.is_dir() else None
    if plan.steps:
        if written is not None:
            plan.notes.append(_mention(saving))
        return plan
    if written is not None:
        plan.reasons += [f"{saving.name}: {reason}" for reason in written.reasons]
        if written.usable:
            plan.steps = [*written.steps, steps.put_in_place(path)]
            return plan
        if not there:
            plan.data_files, plan.metadata_files = written.data_files, written.metadata_files
    if replaced.is_dir():
        if there:
            plan.notes.append(_mention(replaced))
        else:
            plan.steps = [steps.put_back(path)]
    if not there and written is None and not plan.steps:
        raise CommandError(f"{path}: no such directory")
    return plan


def _siblings(path: str) -> tuple[Path, Path]:
    """Returns the directories in which a save writes, and to which it moves an old checkpoint."""
    atomic, _ = steps.storage()
    return atomic.staging(path), atomic.set_aside(path)


def _mention(sibling: Path) -> str:
    return (
        f"{sibling} is there, too, and was left as it is; 'shardplan verify' says whether it is "
        f"sound"
    )


def _of_directory(path: str, ignore_times: bool, of_ranks_too: bool) -> Plan:
    """Looks at one directory.

    Args:
        path: the directory.
        ignore_times: whether data files may be newer than the metadata that describes them.
        of_ranks_too: whether metadata files of ranks are merged.
    """
    folder = Folder(path)
    names = folder.names()
    plan = Plan(
        data_files=list(folder.sizes(each for each in names if _DATA_FILE.fullmatch(each)).items()),
        metadata_files=[each for each in names if _METADATA_FILE.fullmatch(each)],
    )
    if folder.is_file(METADATA):
        current = judge(folder, METADATA)
        plan.sound = current.sound
        if plan.sound:
            if TEMPORARY in names:
                plan.notes.append(f"{TEMPORARY} is there, too; it was left as it is")
            return plan
        readable = current.opened is not None
        plan.reasons += [f"{METADATA}: {fault}" for fault in current.faults if readable]
        plan.reasons += [fault for fault in current.faults if not readable]
    else:
        is_there = METADATA in names
        plan.reasons.append(f"{METADATA} {'is not a file' if is_there else 'is missing'}")
    if folder.is_file(TEMPORARY):
        temporary = judge(folder, TEMPORARY)
        plan.reasons += [f"{TEMPORARY}: {fault}" for fault in temporary.faults]
        if temporary.sound and temporary.later and not ignore_times:
            plan.reasons.append(of_ranks.written_later(temporary))
        elif temporary.sound:
            plan.steps = [*steps.keep(path), steps.rename(path, TEMPORARY, METADATA)]
            return plan
    found = of_ranks.find(folder, names) if of_ranks_too else OfRanks()
    of_ranks.merge(folder, found, ignore_times)
    plan.steps = found.steps
    plan.reasons += found.reasons
    plan.missing_ranks = found.missing
    return plan
