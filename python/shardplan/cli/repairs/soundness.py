"""Whether a directory holds a sound checkpoint according to one of its metadata files."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

from ... import _core
from ...diagnosis.box_faults import slices
from ..checkpoint.entries import entries_of
from ..checkpoint.location import Folder, Opened, UnreadableMetadata, open_metadata, stays_inside
from ..commands.verify import check
from ..display.wording import counted, number_text, shortened

# A save writes the metadata after all data, but the clocks of two machines may differ.
_TOLERANCE = 60.0  # seconds
_MAX_NAMED = 20


@dataclass(frozen=True)
class Judged:
    """A metadata file, and what is wrong with the checkpoint that it describes.

    Attributes:
        file: name of the file.
        opened: the metadata; None if it cannot be read.
        faults: what is wrong, one line each; empty if the checkpoint is sound.
        holes: whether tensors have elements in no box.
        later: data files that were written after the metadata file.
    """

    file: str
    opened: Opened | None
    faults: list[str]
    holes: bool = False
    later: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.faults


def judge(folder: Folder, file: str, whole: bool = True) -> Judged:
    """Reads a metadata file and checks the checkpoint as ``shardplan verify`` does.

    Args:
        folder: the directory of the checkpoint.
        file: name of the metadata file.
        whole: whether the file describes the parts of all ranks.

    Raises:
        CommandError: the system cannot read the file.
    """
    path = os.path.join(folder.path, file)
    try:
        opened = open_metadata(folder.path, folder, file, path, whole)
    except UnreadableMetadata as error:
        return Judged(file, None, [str(error)])
    faults, holes = faults_of(opened)
    return Judged(file, opened, faults, holes, _written_later(opened, path))


def _written_later(opened: Opened, path: str) -> list[str]:
    """Returns the data files that were written well after a metadata file."""
    at = os.stat(path).st_mtime
    later = []
    for name, *_ in opened.checkpoint.files():
        if stays_inside(name):
            try:
                if os.stat(os.path.join(opened.folder.path, name)).st_mtime > at + _TOLERANCE:
                    later.append(name)
            except (OSError, ValueError):
                continue
    return sorted(later)


def judge_bytes(folder: Folder, file: str, data: bytes) -> Judged:
    """Does what ``judge`` does, for the bytes of a metadata file that has not been written.

    Args:
        folder: the directory of the checkpoint.
        file: name of the metadata file.
        data: its bytes.
    """
    left = memoryview(data)

    def read(buffer: memoryview) -> int:
        nonlocal left
        count = min(len(buffer), len(left))
        buffer[:count] = left[:count]
        left = left[count:]
        return count

    opened = Opened(folder.path, folder, file, len(data), _core.Checkpoint(read), True)
    faults, holes = faults_of(opened)
    return Judged(file, opened, faults, holes)


def faults_of(opened: Opened) -> tuple[list[str], bool]:
    """Checks a checkpoint as ``shardplan verify`` does, without reading its parts.

    Returns:
        What is wrong, one line each, and whether tensors have elements in no box.
    """
    report = check(opened, entries_of(opened.checkpoint), False)
    if report["sound"]:
        return [], False
    lines = []
    for kind, found in report["problems"].items():
        for file, count in sorted(Counter(one["file"] or "" for one in found).items()):
            lines.append(f"{counted(count, 'part')}: {kind}{f' {file}' if file else ''}")
    for one in report["lost"]:
        regions = ", ".join(slices(each["offsets"], each["sizes"]) for each in one["regions"][:4])
        of = f"{number_text(one['elements'])} of {counted(one['of'], 'element')}"
        lines.append(f"{shortened(one['name'])}: {f'{of}: {regions}' if regions else 'all of it'}")
    if bad := report["boxes"]["bad"]:
        tensors = counted(bad, "tensor has", "tensors have")
        lines.append(f"{tensors} overlapping or missing boxes, or boxes out of bounds")
    for count, what in (
        (len(report["shared_bytes"]), "pair of items shares bytes of a file"),
        (len(report["repeated_keys"]), "storage_data item with a repeated key"),
        (report["unknown_entries"], "entry of an unsupported type"),
        (report["unknown_places"], "storage_data item with no readable location"),
    ):
        if count:
            lines.append(f"{what}: {count:,}")
    return first_few(lines), bool(report["boxes"]["bad"])


def first_few(lines: list[str]) -> list[str]:
    """Returns the first lines of a long list, and a line that counts the others."""
    more = len(lines) - _MAX_NAMED
    return [*lines[:_MAX_NAMED], f"and {more:,} more"] if more > 0 else lines
