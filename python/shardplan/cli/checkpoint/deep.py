"""Reads the parts of a checkpoint: whether their bytes are those that were written, and of what.

A part is what ``torch.save`` wrote: a zip with checksums. ``_core`` reads it, and makes and calls
nothing that it names.
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
    """What is wrong with these parts: (part, kind, detail). Files are read one after another.

    No stretch of a file is read for two parts, so that the work is bounded by the files, whatever
    the metadata claims: a part that shares bytes with one before it is "overlapping". A part that
    torch saved without checksums, and with which nothing else is wrong, is "unchecked".
    """
    by_file: dict[str, list[Any]] = {}
    total = 0
    of_entry: tuple[int, Any] = (-1, None)
    for part in parts:
        at, chunk = part
        if of_entry[0] != at:
            of_entry = at, opened.checkpoint.places(at)
        place = of_entry[1][chunk or 0]
        if place is not None and stays_inside(place[0]):
            by_file.setdefault(place[0], []).append((place[1], place[2], place[3], part))
            total += place[2]
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
            try:
                stream = opened.folder.open(file)
            except OSError as error:
                for *_, part in found:
                    yield part, "unreadable", str(error)
                continue
            read_to = 0
            with stream:
                for begin, length, transformed, part in found:
                    if begin < read_to:
                        yield part, "overlapping", f"byte {begin:,}"
                        progress.advance(length)
                        continue
                    read_to = begin + length
                    wrong = _wrong(
                        entries[part[0]], sizes_of(part), stream, begin, length, transformed
                    )
                    progress.advance(length)
                    if wrong is not None:
                        yield part, wrong[0], f"byte {begin:,}: {wrong[1]}"


def _wrong(
    entry: Entry,
    sizes: list[int] | None,
    stream: BinaryIO,
    begin: int,
    length: int,
    transformed: bool,
) -> tuple[str, str] | None:
    """sizes: of the part's box; None for an object"""
    readinto = part_reader(stream, begin, length)
    try:
        head = b"" if transformed else head_of_part(readinto, length)
        if not head.startswith(b"PK\x03\x04"):
            if sizes is not None and not transformed:
                return "unreadable", why_no_zip(head)
            return _read_all(readinto, length)
        part = _core.StoredPart(readinto, length)
        damaged = part.damaged_member()
        if damaged is not None:
            return "checksum", f"in {damaged}"
        tensor = None if sizes is None else part.tensor()
    except (_core.BadPart, OSError) as error:
        return "unreadable", str(error)
    # Whatever a stream of another file system makes of a broken file.
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
    """Reads a stretch of a file, by bytes that count from its begin."""

    def readinto(offset: int, buffer: memoryview) -> int:
        stream.seek(begin + offset)
        data = stream.read(max(0, min(len(buffer), length - offset)))
        buffer[: len(data)] = data
        return len(data)

    return readinto


def head_of_part(readinto: Callable[[int, memoryview], int], length: int) -> bytes:
    """The first 8 bytes of a part, which say what it is."""
    head = bytearray(min(8, length))
    return bytes(head[: readinto(0, memoryview(head))])


def why_no_zip(head: bytes) -> str:
    """What a part is that begins otherwise than a zip."""
    if 2 <= int.from_bytes(head, "little") <= _MAX_HEADER:
        return "is of a safetensors file, which DCP's own reader does not read"
    return "is not what torch.save writes"


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
    """A shape in words: a file may have one of many dims."""
    return str(shape) if len(shape) <= 16 else f"{len(shape):,} dims"
