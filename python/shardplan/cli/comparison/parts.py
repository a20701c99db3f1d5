"""Reads parts for ``diff --deep``, in whole or one region at a time, after their checksums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, BinaryIO

import numpy as np

from ... import _core
from ..checkpoint.deep import describe_unsupported, head_of_part, part_reader, shape_text
from ..checkpoint.entries import Entry
from ..checkpoint.location import Opened, stays_inside
from ..display.terminal import Progress

# Limits of one contiguous read. Elements that lie farther apart are read one by one: a small read
# takes as long as a read of `_MAX_WASTE * _SMALL` bytes.
_MAX_STRETCH = 8 << 20
_MAX_WASTE, _SMALL = 256, 256
_MAX_FILES = 16  # open files per side
BLOCK = 1 << 20

Readinto = Callable[[int, memoryview], int]
Numbers = Sequence[int]


class NotCompared(Exception):
    """Raised if a part or an entry cannot be compared.

    Args:
        why: the reason.
        damaged: whether the reason is damage.
    """

    def __init__(self, why: str, damaged: bool) -> None:
        super().__init__(why)
        self.damaged = damaged


class Side:
    """One of the two checkpoints, and its open files."""

    def __init__(self, opened: Opened, progress: Progress) -> None:
        self.opened = opened
        self.progress = progress
        self.name = opened.name
        self.sizes = opened.sizes()
        self._streams: dict[str, BinaryIO] = {}

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams.values():
            stream.close()

    def place(self, location: Any) -> tuple[str, int, int]:
        """Returns the file, the first byte and the number of bytes of a part.

        Raises:
            NotCompared: the location is missing, or does not lie within a file of the checkpoint.
        """
        if location is None:
            raise NotCompared("is in no file", True)
        file, begin, length, _ = location
        if not stays_inside(file):
            raise NotCompared(f"is in {file}, outside the checkpoint", True)
        if file not in self.sizes:
            raise NotCompared(f"is in {file}, which does not exist", True)
        if begin < 0 or length < 0 or begin + length > self.sizes[file]:
            raise NotCompared(
                f"is in bytes {begin:,} to {begin + length:,} of {file}, which has "
                f"{self.sizes[file]:,}",
                True,
            )
        return file, begin, length

    def reader(self, location: Any) -> tuple[Readinto, int]:
        """Returns a function that reads the bytes of a part, and the number of these bytes.

        Raises:
            NotCompared: see ``place``.
        """
        file, begin, length = self.place(location)

        def readinto(offset: int, buffer: memoryview) -> int:
            try:
                return part_reader(self._stream(file), begin, length)(offset, buffer)
            except OSError:
                raise
            # A third-party file system may raise any exception.
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
    """A stored tensor with valid checksums, and the bytes of it that are in memory."""

    def __init__(
        self, side: Side, entry: Entry, location: Any, sizes: list[int], most: int
    ) -> None:
        """Opens a part and checks it.

        Args:
            side: the checkpoint.
            entry: the tensor.
            location: the location of the part.
            sizes: the sizes of its box.
            most: maximum bytes of a part that is kept in memory.

        Raises:
            NotCompared: the part is damaged, or cannot be read.
        """
        self._readinto, length = side.reader(location)
        file, begin, _, transformed = location
        side.progress.advance(length)
        whole = bytearray()
        try:
            if transformed:
                raise NotCompared("was transformed when it was written", False)
            if length <= most:
                whole = read_all(self._readinto, 0, length)
                self._readinto = _of_memory(whole)
            head = head_of_part(self._readinto, length)
            if not head.startswith(b"PK\x03\x04"):
                why = describe_unsupported(head)
                raise NotCompared(why, "safetensors" not in why)
            part = _core.StoredPart(self._readinto, length)
            damaged = part.damaged_member()
            if damaged is not None:
                raise NotCompared(f"checksum mismatch in {damaged}", True)
            tensor = part.tensor()
            _check(entry, sizes, tensor)
        except NotCompared as error:
            raise NotCompared(f"{file}, byte {begin:,}: {error}", error.damaged) from error
        # A third-party file system may raise any exception.
        except Exception as error:
            why = str(error) if isinstance(error, (_core.BadPart, OSError)) else repr(error)
            unread = isinstance(error, _core.UnreadPart)
            raise NotCompared(f"{file}, byte {begin:,}: {why}", not unread) from error
        self._bytes = whole
        self._first = 0  # offset in the part of the bytes in memory
        self._size = tensor["element_size"]
        self._begin = tensor["begin"]
        self.strides = [self._size * stride for stride in tensor["strides"]]

    def reach(self, sizes: Numbers) -> int:
        """Returns the bytes from the first to the last element of a region."""
        steps = zip(sizes, self.strides, strict=True)
        return self._size + sum((size - 1) * stride for size, stride in steps)

    def holds(self, offsets: Numbers, sizes: Numbers) -> bool:
        first = self._at(offsets) - self._first
        return first >= 0 and first + self.reach(sizes) <= len(self._bytes)

    def is_too_sparse(self, offsets: Numbers, sizes: Numbers) -> bool:
        """Returns whether one read of a region would use much memory, mostly for other bytes."""
        if prod(sizes) == 1 or self.holds(offsets, sizes):
            return False
        reach = self.reach(sizes)
        most = _MAX_WASTE * max(_SMALL, self._size * prod(sizes))
        return reach > min(_MAX_STRETCH, most)

    def hold(self, offsets: Numbers, sizes: Numbers) -> None:
        """Reads the bytes of a region into memory, and drops all others."""
        if not self.holds(offsets, sizes):
            self._bytes = bytearray()  # free before allocating
            self._first = self._at(offsets)
            self._bytes = read_all(self._readinto, self._first, self.reach(sizes))

    def bits(self, offsets: Numbers, sizes: Numbers) -> Any:
        """Returns the elements of a region as unsigned integers; 128-bit elements as two of 64."""
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
    # Otherwise a few bytes could represent any number of elements.
    if prod(sizes) * tensor["element_size"] > tensor["reach"]:
        raise NotCompared("has elements that share bytes", False)


def read_all(readinto: Readinto, offset: int, count: int) -> bytearray:
    """Reads ``count`` bytes from ``offset``. Raises OSError if there are fewer."""
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
    """Returns the dims whose size is not 1."""
    return [dim for dim, size in enumerate(sizes) if size != 1]
