"""Parts as ``diff --deep`` reads them: checksums first, whole or a stretch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, BinaryIO

import numpy as np

from ... import _core
from ..checkpoint.deep import head_of_part, part_reader, shape_text, why_no_zip
from ..checkpoint.entries import Entry
from ..checkpoint.location import Opened, stays_inside
from ..display.terminal import Progress

# What is read in one stretch; elements that lie farther apart than that are read one by one, for a
# small read takes as long as a stretch of `_MAX_WASTE * _SMALL` bytes.
_MAX_STRETCH = 8 << 20
_MAX_WASTE, _SMALL = 256, 256
_MAX_FILES = 16  # open at a time, a side
BLOCK = 1 << 20

Readinto = Callable[[int, memoryview], int]
Numbers = Sequence[int]


class NotCompared(Exception):
    """Why a part, or an entry, is not compared."""

    def __init__(self, why: str, damaged: bool) -> None:
        super().__init__(why)
        self.damaged = damaged


class Side:
    """One of the two checkpoints, and its files that are open."""

    def __init__(self, opened: Opened, progress: Progress) -> None:
        self.opened = opened
        self.progress = progress
        self.name = opened.name
        self._sizes = opened.sizes()
        self._streams: dict[str, BinaryIO] = {}

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams.values():
            stream.close()

    def reader(self, place: Any) -> tuple[Readinto, int]:
        """Reads the bytes of a part, which lie within its file; and how many they are."""
        if place is None:
            raise NotCompared("is in no file", True)
        file, begin, length, _ = place
        if not stays_inside(file):
            raise NotCompared(f"is in {file}, outside the checkpoint", True)
        if file not in self._sizes:
            raise NotCompared(f"is in {file}, which does not exist", True)
        if begin < 0 or length < 0 or begin + length > self._sizes[file]:
            raise NotCompared(
                f"is in bytes {begin:,} to {begin + length:,} of {file}, which has "
                f"{self._sizes[file]:,}",
                True,
            )

        def readinto(offset: int, buffer: memoryview) -> int:
            try:
                return part_reader(self._stream(file), begin, length)(offset, buffer)
            except OSError:
                raise
            # Whatever a file system of others raises.
            except Exception as error:
                raise OSError(f"{type(error).__name__}: {error}") from error

        return readinto, length

    def _stream(self, file: str) -> BinaryIO:
        stream = self._streams.pop(file, None)
        if stream is None:
            if len(self._streams) >= _MAX_FILES:
                self._streams.pop(next(iter(self._streams))).close()
            stream = self.opened.folder.open(file)
        self._streams[file] = stream
        return stream


class Part:
    """A stored tensor, whose checksums fit, and which of its bytes are in memory."""

    def __init__(self, side: Side, entry: Entry, place: Any, sizes: list[int], most: int) -> None:
        """most: bytes up to which the part is kept in memory"""
        self._readinto, length = side.reader(place)
        file, begin, _, transformed = place
        side.progress.advance(length)
        whole = bytearray()
        try:
            if transformed:
                raise NotCompared("was transformed as it was written", False)
            if length <= most:
                whole = read_all(self._readinto, 0, length)
                self._readinto = _of_memory(whole)
            head = head_of_part(self._readinto, length)
            if not head.startswith(b"PK\x03\x04"):
                why = why_no_zip(head)
                raise NotCompared(why, "safetensors" not in why)
            part = _core.StoredPart(self._readinto, length)
            damaged = part.damaged_member()
            if damaged is not None:
                raise NotCompared(f"its checksum does not fit, in {damaged}", True)
            tensor = part.tensor()
            _check(entry, sizes, tensor)
        except NotCompared as error:
            raise NotCompared(f"{file}, byte {begin:,}: {error}", error.damaged) from error
        # Whatever a stream of another file system makes of a broken file.
        except Exception as error:
            why = str(error) if isinstance(error, (_core.BadPart, OSError)) else repr(error)
            unread = isinstance(error, _core.UnreadPart)
            raise NotCompared(f"{file}, byte {begin:,}: {why}", not unread) from error
        self._bytes = whole
        self._first = 0  # of the bytes in memory, in the part
        self._size = tensor["element_size"]
        self._begin = tensor["begin"]
        self.strides = [self._size * stride for stride in tensor["strides"]]

    def reach(self, sizes: Numbers) -> int:
        """Bytes from the first to the last of a region."""
        steps = zip(sizes, self.strides, strict=True)
        return self._size + sum((size - 1) * stride for size, stride in steps)

    def holds(self, offsets: Numbers, sizes: Numbers) -> bool:
        first = self._at(offsets) - self._first
        return first >= 0 and first + self.reach(sizes) <= len(self._bytes)

    def takes_much(self, offsets: Numbers, sizes: Numbers) -> bool:
        """Whether reading a region in one stretch takes much memory, or far more than it has."""
        if prod(sizes) == 1 or self.holds(offsets, sizes):
            return False
        reach = self.reach(sizes)
        most = _MAX_WASTE * max(_SMALL, self._size * prod(sizes))
        return reach > min(_MAX_STRETCH, most)

    def hold(self, offsets: Numbers, sizes: Numbers) -> None:
        """Keeps the bytes of a region in memory, and those alone."""
        if not self.holds(offsets, sizes):
            self._bytes = bytearray()  # before others are allocated
            self._first = self._at(offsets)
            self._bytes = read_all(self._readinto, self._first, self.reach(sizes))

    def bits(self, offsets: Numbers, sizes: Numbers) -> Any:
        """The elements of a region as unsigned numbers: two of 64 bits for one of 128."""
        data, first = self._bytes, self._at(offsets) - self._first
        if not self.holds(offsets, sizes):
            data, first = read_all(self._readinto, self._at(offsets), self.reach(sizes)), 0
        dims = long_dims(sizes)
        shape = [sizes[at] for at in dims] or [1]
        strides = [self.strides[at] for at in dims] or [self._size]
        word = min(self._size, 8)
        if word < self._size:
            shape.append(self._size // word)
            strides.append(word)
        return np.ndarray(shape, f"<u{word}", data, first, strides)

    def _at(self, offsets: Numbers) -> int:
        steps = zip(offsets, self.strides, strict=True)
        return int(self._begin) + sum(offset * stride for offset, stride in steps)


def _check(entry: Entry, sizes: list[int], tensor: Any) -> None:
    if tensor["shape"] != sizes:
        why = f"has the shape {shape_text(tensor['shape'])}, not {shape_text(sizes)}"
        raise NotCompared(why, True)
    if entry.dtype and tensor["dtype"] != entry.dtype:
        raise NotCompared(f"has the dtype {tensor['dtype']}, not {entry.dtype}", True)
    if tensor["big_endian"]:
        raise NotCompared("has big-endian bytes", False)
    # Else a few bytes could be as many elements as a file claims.
    if prod(sizes) * tensor["element_size"] > tensor["reach"]:
        raise NotCompared("has elements that share bytes", False)


def read_all(readinto: Readinto, offset: int, count: int) -> bytearray:
    data = bytearray(count)
    view, at = memoryview(data), 0
    while at < count:
        got = readinto(offset + at, view[at : at + BLOCK])
        if got == 0:
            raise OSError(f"it ends at byte {offset + at:,} of {offset + count:,}")
        at += got
    return data


def _of_memory(data: bytearray) -> Readinto:
    def readinto(offset: int, buffer: memoryview) -> int:
        stretch = memoryview(data)[offset : offset + len(buffer)]
        buffer[: len(stretch)] = stretch
        return len(stretch)

    return readinto


def long_dims(sizes: Numbers) -> list[int]:
    """The dims that have more than one element."""
    return [dim for dim, size in enumerate(sizes) if size != 1]
