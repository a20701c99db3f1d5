"""The metadata files that each rank of a save with ``use_collectives=False`` writes."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pickle import UnpicklingError

from ..checkpoint.entries import rank_of_file
from ..checkpoint.location import METADATA, Folder
from ..display.wording import counted
from ..failures import CommandError
from .soundness import Judged, first_few, judge, judge_bytes
from .steps import Step, keep, rename, write_merged

_FILE = re.compile(r"__(0|[1-9][0-9]{0,8})\.metadata(\.tmp)?")


@dataclass
class OfRanks:
    """What the metadata files of ranks allow.

    Attributes:
        files: the metadata file of each rank that has one.
        missing: (first, last) of each range of ranks without a metadata file.
        steps: the steps that merge them; empty if that cannot be done.
        reasons: why they cannot be merged, one line each.
    """

    files: dict[int, str] = field(default_factory=dict)
    missing: list[tuple[int, int]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def find(folder: Folder, names: list[str]) -> OfRanks:
    """Finds the metadata files of ranks, and the ranks that lack one.

    A rank that has data files must have a metadata file, too.

    Args:
        folder: the directory of the checkpoint.
        names: the names of its files.
    """
    found = OfRanks()
    for name in names:
        match = _FILE.fullmatch(name)
        # A complete file comes before the temporary one of the same rank.
        if match and folder.is_file(name) and (not match[2] or int(match[1]) not in found.files):
            found.files[int(match[1])] = name
    if found.files:
        with_data = {rank for name in names if (rank := rank_of_file(name)) is not None}
        found.missing = gaps(found.files, max(max(found.files), max(with_data, default=0)))
    return found


def gaps(ranks: Iterable[int], last: int) -> list[tuple[int, int]]:
    """Returns (first, last) of each range of ranks up to ``last`` that is not in ``ranks``."""
    missing = []
    expected = 0
    for rank in [*sorted(set(ranks)), last + 1]:
        if rank > expected:
            missing.append((expected, rank - 1))
        expected = rank + 1
    return missing


def ranks_text(first: int, last: int) -> str:
    """Formats a range of ranks: ``rank 3``, or ``ranks 3 to 5``."""
    return f"rank {first}" if first == last else f"ranks {first} to {last}"


def merge(folder: Folder, found: OfRanks, ignore_times: bool) -> None:
    """Sets the steps that merge the files, or the reasons why that cannot be done.

    Args:
        folder: the directory of the checkpoint.
        found: what ``find`` has returned.
        ignore_times: whether a data file may be newer than the metadata of its rank.

    Raises:
        CommandError: the system cannot read a file, or torch cannot be imported.
    """
    if not found.files:
        return
    for first, last in found.missing:
        found.reasons.append(f"the metadata of {ranks_text(first, last)} is missing")
    for _, file in sorted(found.files.items()):
        judged = judge(folder, file, whole=False)
        found.reasons += [f"{file}: {fault}" for fault in judged.faults]
        if not ignore_times and judged.sound and judged.later:
            found.reasons.append(written_later(judged))
    if found.reasons:
        found.reasons = first_few(found.reasons)
        return
    data = _merged_bytes(folder, found)
    if data is None:
        return
    judged = judge_bytes(folder, METADATA, data)
    if judged.sound:
        found.steps = [
            rename(folder.path, file, file.removesuffix(".tmp"))
            for file in found.files.values()
            if file.endswith(".tmp")
        ]
        found.steps += keep(folder.path)
        found.steps.append(write_merged(folder.path, data, len(found.files)))
        return
    found.reasons += judged.faults
    if judged.holes:
        last = max(found.files)
        found.reasons.append(
            f"{counted(last + 1, 'rank')} left metadata; if the save had more, the files of rank "
            f"{last + 1} and later ones are missing"
        )


def written_later(judged: Judged) -> str:
    """Says that data files are newer than the metadata file that describes them."""
    files = ", ".join(judged.later[:3]) + (" and others" if len(judged.later) > 3 else "")
    return (
        f"{files}: written more than a minute after {judged.file}, possibly by a later save; if a "
        f"copy has changed the times of the files, pass --ignore-times"
    )


def _merged_bytes(folder: Folder, found: OfRanks) -> bytes | None:
    """Returns the merged file, or None after adding the reasons why there is none."""
    try:
        from ...dcp.storage import metadata_file, rank_metadata  # imports torch
    except ImportError as error:
        raise CommandError(f"metadata is merged with torch: {error}") from error
    by_rank = {}
    try:
        for rank, file in sorted(found.files.items()):
            path = os.path.join(folder.path, file)
            with open(path, "rb") as stream:
                by_rank[rank] = metadata_file.load(stream, path, trust=False)
        buffer = io.BytesIO()
        metadata_file.dump(rank_metadata.merge(by_rank), buffer)
    except rank_metadata.MergeError as error:
        found.reasons += first_few(error.reasons)
        return None
    except UnpicklingError as error:
        found.reasons.append(str(error))
        return None
    # The attributes of a hostile file may have any of the types that metadata may contain.
    except (AttributeError, TypeError, ValueError) as error:
        found.reasons.append(f"the metadata of ranks cannot be merged: {error}")
        return None
    return buffer.getvalue()
