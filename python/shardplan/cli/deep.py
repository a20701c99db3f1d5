"""Reads the parts of a checkpoint: whether their bytes are those that were written, and of what.

A part is what ``torch.save`` wrote: a zip with checksums. Of the pickle in it only its tensor's
shape and dtype are read, by a machine that knows what makes tensors and makes none; nothing that it
names is called.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from .. import _core
from .dtypes import element_size
from .entries import Entry
from .location import Opened, stays_inside
from .terminal import Progress

_BLOCK = 1 << 20
_MOST_PICKLE = 1 << 24
_MOST_HEADER = 100_000_000

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
}
Found = tuple[tuple[int, int | None], str, str]


def read_deeply(
    opened: Opened, entries: list[Entry], parts: Iterable[tuple[int, int | None]]
) -> Iterator[Found]:
    """What is wrong with these parts: (part, kind, detail). Files are read one after another."""
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
                    yield part, "unreadable", f"{file}: {error}"
                continue
            with stream:
                for begin, length, transformed, part in found:
                    data = _Slice(stream, begin, length)
                    wrong = _wrong(entries[part[0]], sizes_of(part), data, transformed)
                    progress.advance(length)
                    if wrong is not None:
                        yield part, wrong[0], f"{file}, byte {begin:,}: {wrong[1]}"


def _wrong(
    entry: Entry, sizes: list[int] | None, data: _Slice, transformed: bool
) -> tuple[str, str] | None:
    """sizes: of the part's box; None for an object"""
    try:
        if transformed:
            data.read_all()
            return None
        tensor = _read(data, sizes is not None)
    except _Checksum as error:
        return "checksum", str(error)
    # Whatever a broken file makes of the readers of zip, zlib, json and pickle.
    except (Exception, RecursionError, MemoryError) as error:
        return "unreadable", f"{type(error).__name__}: {error}"
    if tensor is None or sizes is None:
        return None
    if list(tensor.shape) != sizes:
        return "shape", f"{list(tensor.shape)}, not {sizes}"
    if tensor.dtype and entry.dtype and tensor.dtype != entry.dtype:
        return "dtype", f"{tensor.dtype}, not {entry.dtype}"
    return None


class _Checksum(Exception):
    pass


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    dtype: str


class _Slice(io.RawIOBase):
    """A stretch of a file as a file."""

    def __init__(self, stream: BinaryIO, begin: int, length: int) -> None:
        self._stream, self._begin, self._length = stream, begin, length
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise OSError("before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._length - self._at))
        self._stream.seek(self._begin + self._at)
        data = self._stream.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def read_all(self) -> None:
        self.seek(0)
        while self.read(_BLOCK):
            pass
        if self._at != self._length:
            raise OSError(f"ends after {self._at:,} of {self._length:,} bytes")


def _read(data: _Slice, is_tensor: bool) -> _Tensor | None:
    """The tensor of a part; None for an object, whose bytes alone are read."""
    head = data.read(8) or b""
    data.seek(0)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(data, is_tensor)
    if is_tensor and 2 <= int.from_bytes(head, "little") <= _MOST_HEADER:
        raise ValueError("is of a safetensors file, which DCP's own reader does not read")
    if is_tensor:
        raise ValueError("is not what torch.save writes")
    data.read_all()
    return None


def _read_zip(data: _Slice, is_tensor: bool) -> _Tensor | None:
    with zipfile.ZipFile(data) as archive:
        _check_directory(data, archive)
        pickled = b""
        sizes = {}
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} is compressed, which torch.save never does")
            checksum = 0
            # Read by hand: zipfile stops at a checksum without saying what it read.
            with archive.open(member) as stream:
                stream._expected_crc = None  # type: ignore[attr-defined]
                while block := stream.read(_BLOCK):
                    checksum = zlib.crc32(block, checksum)
                    if member.filename.endswith("/data.pkl") and len(pickled) < _MOST_PICKLE:
                        pickled += block
            if checksum != member.CRC:
                raise _Checksum(f"in {member.filename}")
            sizes[member.filename.partition("/")[2]] = member.file_size
    if not is_tensor:
        return None
    if not pickled:
        raise ValueError("has no data.pkl")
    tensor, storage, needed = _tensor_of(pickled)
    if sizes.get(f"data/{storage}", -1) < needed:
        raise ValueError(f"has {sizes.get(f'data/{storage}', 0):,} bytes of {needed:,}")
    return tensor


_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")


def _check_directory(data: _Slice, archive: zipfile.ZipFile) -> None:
    """Refuses a directory that torch's reader refuses and zipfile does not."""
    members = archive.infolist()
    begin = archive.start_dir
    data.seek(begin)
    tail = data.read() or b""
    at = 0
    alike = set()
    for member in members:
        (_, made, needed, flags, method, time, date, _, packed, size, name, extra, note, disk,
         inner, outer, offset) = _CENTRAL.unpack_from(tail, at)  # fmt: skip
        alike.add((made, needed, flags, method, time, date, note, disk, inner, outer))
        if packed != size or offset not in (member.header_offset, 2**32 - 1):
            raise ValueError(f"has a directory that does not fit {member.filename}")
        at += _CENTRAL.size + name + extra + note
    if len(alike) != 1:
        raise ValueError("has a directory whose records differ")
    expected = (len(members), len(members), at, begin)
    if tail[at : at + 4] == b"PK\x06\x06":
        _, length, _, _, disk, other, *counts = _END_64.unpack_from(tail, at)
        if (length, disk, other, *counts) != (_END_64.size - 12, 0, 0, *expected):
            raise ValueError("has a broken end of its directory")
        _, disk, end_64, disks = _LOCATOR.unpack_from(tail, at + _END_64.size)
        if (disk, end_64, disks) != (0, begin + at, 1):
            raise ValueError("has a broken end of its directory")
        at += _END_64.size + _LOCATOR.size
    _, disk, other, *short, note = _END.unpack_from(tail, at)
    known = [
        found in (right, limit)
        for found, right, limit in zip(
            short, expected, (0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1), strict=True
        )
    ]
    if disk or other or note or not all(known) or at + _END.size != len(tail):
        raise ValueError("has a broken end of its directory")


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    elements: int


@dataclass(frozen=True)
class _Global:
    name: str


class _Unpickler(pickle._Unpickler):
    """Knows what a tensor is rebuilt by, and rebuilds none. The one in Python: that in C makes room
    for as much as a file claims."""

    def find_class(self, module: str, name: str) -> Any:
        known = (module, name)
        if known in (
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch._utils", "_rebuild_tensor_v3"),
        ):
            return _rebuilt
        if known == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if known == ("collections", "OrderedDict"):
            return OrderedDict
        if known == ("torch", "Size"):
            return tuple
        if module in ("torch", "torch.storage") and name.isidentifier():
            return _Global(name)
        raise ValueError(f"names {module}.{name}, which is nothing that makes a tensor")

    def persistent_load(self, pid: Any) -> Any:
        kind, storage, key, _, elements = pid
        if kind != "storage" or not isinstance(storage, _Global):
            raise ValueError("has another storage than torch.save writes")
        return _Storage(str(key), _STORAGES.get(storage.name, ""), int(elements))


def _rebuilt(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> Any:
    dtype = next((one.name for one in rest if isinstance(one, _Global)), storage.dtype)
    reach = offset + 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    reach = 0 if 0 in size else reach
    return _Tensor(tuple(size), dtype), storage, reach


def _tensor_of(pickled: bytes) -> tuple[_Tensor, str, int]:
    made = _Unpickler(io.BytesIO(pickled)).load()
    if not (isinstance(made, tuple) and len(made) == 3 and isinstance(made[0], _Tensor)):
        raise ValueError("holds no tensor")
    tensor, storage, reach = made
    return tensor, storage.key, reach * (element_size(tensor.dtype) or 1)
