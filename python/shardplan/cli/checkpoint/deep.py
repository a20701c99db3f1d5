"""Reads the parts of a checkpoint and checks their checksums, shapes and dtypes.

A part is a zip file with checksums that ``torch.save`` wrote. ``_core`` parses it without importing
or calling anything that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from ... import _core
from ..display.terminal import Progress
from .entries import Entry
from .location import Opened, stays_inside

_BLOCK = 1 << 20
_MAX_HEADER = 100_000_000

Found = tuple[tuple[int, int | None], str, str]


def read_deeply(
    opened: Opened, entries: list[Entry], parts: Iterable[tuple[int, int | None]]
) -> Iterator[Found]:
    """Reads parts and yields their faults as (part, kind, detail).

    Files are read one after another, by several threads. The work is bounded by the sizes of the
    files: a part that shares bytes with an earlier one is not read and has the kind "overlapping".
    Sound parts are read once; another part is read again, to describe its fault. A part without
    checksums and without other faults has the kind "unchecked".

    Args:
        opened: the checkpoint.
        entries: all entries of the checkpoint.
        parts: (index of the entry, index of the chunk or None for an object) of each part to read.
    """
    by_file: dict[str, list[Any]] = {}
    total = 0
    entry_locations: tuple[int, Any] = (-1, None)
    for part in parts:
        at, chunk = part
        if entry_locations[0] != at:
            entry_locations = at, opened.checkpoint.locations(at)
        location = entry_locations[1][chunk or 0]
        if location is not None and stays_inside(location[0]):
            by_file.setdefault(location[0], []).append(
                (location[1], location[2], location[3], part)
            )
            total += location[2]
    boxes: dict[int, _core.Boxes | None] = {}

    def sizes_of(part: tuple[int, int | None]) -> list[int] | None:
        at, chunk = part
        if chunk is None:
            return None
        if at not in boxes:
            boxes[at] = opened.checkpoint.boxes(at)
        held = boxes[at]
        return None if held is None else _core.box(held, chunk)[1]

    with Progress("reading tensors", total) as progress:
        for file, found in sorted(by_file.items()):
            found.sort()
            disjoint = []
            read_to = 0
            for one in found:
                begin, length, _, part = one
                if begin < read_to:
                    yield part, "overlapping", f"byte {begin:,}"
                    progress.advance(length)
                    continue
                read_to = begin + length
                disjoint.append(one)
            try:
                suspects = _suspects(opened, file, disjoint, progress)
                stream = opened.folder.open(file) if suspects else None
            except OSError as error:
                for *_, part in disjoint:
                    yield part, "unreadable", str(error)
                continue
            if stream is None:
                continue
            with stream:
                for begin, length, transformed, part in suspects:
                    fault = _fault(
                        entries[part[0]], sizes_of(part), stream, begin, length, transformed
                    )
                    if fault is not None:
                        yield part, fault[0], f"byte {begin:,}: {fault[1]}"


def _suspects(opened: Opened, file: str, found: list[Any], progress: Progress) -> list[Any]:
    """Reads the parts of a file natively, and returns those that are not known to be sound."""
    plain = [one for one in found if not one[2]]
    done = 0

    def advance(read: int) -> None:
        nonlocal done
        progress.advance(read - done)
        done = read

    access = opened.folder.access(file)
    unsound = opened.checkpoint.unsound_parts(
        [part for *_, part in plain], access.path, access.read_range, access.threads, advance
    )
    suspects = [plain[at] for at in unsound] + [one for one in found if one[2]]
    progress.advance(sum(one[1] for one in found) - done)
    return sorted(suspects)


def _fault(
    entry: Entry,
    sizes: list[int] | None,
    stream: BinaryIO,
    begin: int,
    length: int,
    transformed: bool,
) -> tuple[str, str] | None:
    """Returns the kind and detail of a part's fault, or None.

    Args:
        sizes: sizes of the part's box; None for an object.
    """
    readinto = part_reader(stream, begin, length)
    try:
        head = b"" if transformed else head_of_part(readinto, length)
        if not head.startswith(b"PK\x03\x04"):
            if sizes is not None and not transformed:
                return "unreadable", describe_unsupported(head)
            return _read_all(readinto, length)
        part = _core.StoredPart(readinto, length)
        damaged = part.damaged_member()
        if damaged is not None:
            return "checksum", f"in {damaged}"
        tensor = None if sizes is None else part.tensor()
    except (_core.BadPart, OSError) as error:
        return "unreadable", str(error)
    # A third-party file system may raise any exception.
    except Exception as error:
        return "unreadable", f"{type(error).__name__}: {error}"
    unchecked = None if part.has_checksums else ("unchecked", "")
    if tensor is None or sizes is None:
        return unchecked
    if tensor["shape"] != sizes:
        return "shape", f"{shape_text(tensor['shape'])}, not {sizes}"
    if entry.dtype and tensor["dtype"] != entry.dtype:
        return "dtype", f"{tensor['dtype']}, not {entry.dtype}"
    return unchecked


def part_reader(stream: BinaryIO, begin: int, length: int) -> Callable[[int, memoryview], int]:
    """Returns a function that reads from a range of a file.

    Args:
        stream: the file.
        begin: first byte of the range.
        length: bytes in the range.

    Returns:
        A function of an offset in the range and a buffer, which returns the number of bytes read.
    """

    def readinto(offset: int, buffer: memoryview) -> int:
        stream.seek(begin + offset)
        data = stream.read(max(0, min(len(buffer), length - offset)))
        buffer[: len(data)] = data
        return len(data)

    return readinto


def head_of_part(readinto: Callable[[int, memoryview], int], length: int) -> bytes:
    """Returns the first 8 bytes of a part, which identify its format."""
    head = bytearray(min(8, length))
    return bytes(head[: readinto(0, memoryview(head))])


def describe_unsupported(head: bytes) -> str:
    """Describes the format of a part that is not a zip file."""
    if 2 <= int.from_bytes(head, "little") <= _MAX_HEADER:
        return "is part of a safetensors file, which DCP's own reader does not read"
    return "was not written by torch.save"


def _read_all(readinto: Callable[[int, memoryview], int], length: int) -> tuple[str, str] | None:
    block = memoryview(bytearray(min(_BLOCK, length)))
    at = 0
    while at < length:
        got = readinto(at, block)
        if got == 0:
            return "unreadable", f"ends after {at:,} of {length:,} bytes"
        at += got
    return None


def shape_text(shape: list[int]) -> str:
    """Formats a shape; only counts the dims if there are more than 16."""
    return str(shape) if len(shape) <= 16 else f"{len(shape):,} dims"
