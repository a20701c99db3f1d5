"""``_core.StoredPart`` reads files of ``torch.save`` as ``torch.load`` does, or rejects them."""

from __future__ import annotations

import io
import re
import struct
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.serialization import config

from shardplan import _core

# The dtypes of which torch creates and saves tensors.
DTYPES = sorted(
    {
        value
        for value in vars(torch).values()
        if isinstance(value, torch.dtype)
        and not re.fullmatch(r"torch\.(quint\w+|qint\w+|bits\w+|u?int[1-7])", str(value))
    },
    key=str,
)


def saved(value: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def part_of(data: bytes) -> _core.StoredPart:
    def readinto(offset: int, buffer: memoryview) -> int:
        given = data[offset : offset + len(buffer)]
        buffer[: len(given)] = given
        return len(given)

    return _core.StoredPart(readinto, len(data))


def loaded(data: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The data is from this file; weights_only knows only protocol 2.
        return torch.load(io.BytesIO(data), weights_only=False)


def compare(data: bytes) -> None:
    """Asserts that the part is read as torch reads it."""
    expected = loaded(data)
    part = part_of(data)
    assert part.damaged_member() is None
    found = part.tensor()
    assert found["dtype"] == str(expected.dtype).removeprefix("torch.")
    assert found["element_size"] == expected.element_size()
    assert found["shape"] == list(expected.shape)
    assert found["strides"] == list(expected.stride())
    assert found["storage_offset"] == expected.storage_offset()
    assert found["requires_grad"] == expected.requires_grad
    assert found["is_parameter"] == isinstance(expected, torch.nn.Parameter)
    assert found["device"] == "cpu"
    assert not found["big_endian"]
    begin = found["storage_begin"]
    assert found["storage_size"] == expected.untyped_storage().nbytes()
    if found["storage_size"] > 0:
        storage = torch.frombuffer(
            bytearray(data), dtype=torch.uint8, count=found["storage_size"], offset=begin
        )
        whole = torch.zeros(0, dtype=torch.uint8).set_(expected.untyped_storage())
        assert torch.equal(storage, whole)
    if expected.numel() > 0:
        first = expected.storage_offset() * expected.element_size()
        last = sum(
            (n - 1) * step for n, step in zip(expected.shape, expected.stride(), strict=True)
        )
        assert found["begin"] == begin + first
        assert found["reach"] == (last + 1) * expected.element_size()


def tensor_of(dtype: torch.dtype) -> torch.Tensor:
    raw = torch.arange(96, dtype=torch.uint8)
    return (raw % 2).bool() if dtype == torch.bool else raw.view(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype: torch.dtype) -> None:
    compare(saved(tensor_of(dtype)))


BASE = torch.arange(24.0)
TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "scalar": lambda: torch.tensor(3.5),
    "empty": lambda: torch.zeros(0),
    "empty in the middle": lambda: torch.zeros(3, 0, 5),
    "empty view": lambda: BASE[24:],
    "transposed": lambda: BASE.view(4, 6).t(),
    "rows": lambda: BASE.view(4, 6)[1:3],
    "columns": lambda: BASE.view(4, 6)[:, 1::2],
    "expanded": lambda: BASE[:3].view(3, 1).expand(3, 1_000_000_000),
    "channels last": lambda: torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "of many dims": lambda: torch.zeros([1] * 300),
    "that requires gradients": lambda: torch.zeros(3, requires_grad=True),
    "parameter": lambda: torch.nn.Parameter(torch.zeros(3)),
    "frozen parameter": lambda: torch.nn.Parameter(torch.zeros(3), requires_grad=False),
    "parameter of float8": lambda: torch.nn.Parameter(
        torch.zeros(3, dtype=torch.float8_e4m3fn), requires_grad=False
    ),
    "large": lambda: torch.arange(1_000_000),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_kind_of_tensor(name: str, protocol: int) -> None:
    compare(saved(TENSORS[name](), pickle_protocol=protocol))


@pytest.mark.parametrize("alignment", [1, 64, 4096, 16384])
def test_every_alignment(alignment: int) -> None:
    with config.patch("save.storage_alignment", alignment):
        data = saved(BASE.view(4, 6)[1:])
    assert part_of(data).tensor()["storage_begin"] % alignment == 0
    compare(data)


def test_missing_checksums_are_not_wrong() -> None:
    assert part_of(saved(BASE)).has_checksums
    torch.serialization.set_crc32_options(False)
    try:
        data = saved(BASE)
    finally:
        torch.serialization.set_crc32_options(True)
    assert not part_of(data).has_checksums
    compare(data)


def test_members_have_the_checksums_of_zlib() -> None:
    data = saved(torch.arange(100_003))
    members = part_of(data).members()
    assert [name for name, *_ in members] == [
        one.filename for one in zipfile.ZipFile(io.BytesIO(data)).infolist()
    ]
    for _, begin, size, checksum in members:
        assert zlib.crc32(data[begin : begin + size]) == checksum


def test_zip_of_python() -> None:
    """Other programs write a part without padding, with sizes in front, or with 64-bit fields."""
    for wide in (False, True):
        stream = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(saved(BASE))) as before,
            zipfile.ZipFile(stream, "w") as after,
        ):
            for one in before.infolist():
                with after.open(zipfile.ZipInfo(one.filename), "w", force_zip64=wide) as into:
                    into.write(before.read(one))
        compare(stream.getvalue())


class Subclass(torch.Tensor):
    pass


ODD: dict[str, tuple[Callable[[], object], str]] = {
    "dict": (lambda: {"a": BASE}, "it is a dict"),
    "state dict": (lambda: torch.nn.Linear(2, 2).state_dict(), "sets attributes"),
    "list": (lambda: [BASE, BASE], "it is a list"),
    "storage": (lambda: BASE.untyped_storage(), "it is a storage"),
    "number": (lambda: 7, "it is a number"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "_rebuild_sparse_tensor"),
    "quantized": (
        lambda: torch.quantize_per_tensor(BASE, 0.1, 0, torch.qint8),
        "names the global",
    ),
    "subclass": (lambda: BASE.as_subclass(Subclass), "_rebuild_from_type_v2"),
    "meta": (lambda: torch.zeros(3, device="meta"), "_rebuild_meta_tensor_no_storage"),
    "conjugated": (lambda: torch.zeros(3, dtype=torch.complex64).conj(), "conjugated"),
    "negated": (lambda: torch.zeros(3, dtype=torch.complex64).conj().imag, "negated"),
}


@pytest.mark.parametrize("name", ODD)
def test_parts_that_are_not_plain_tensors_are_not_read(name: str) -> None:
    make, expected = ODD[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = saved(make())
    with pytest.raises(_core.UnreadPart, match="is not a plain tensor") as raised:
        part_of(data).tensor()
    assert expected in str(raised.value)


def test_legacy_format_is_not_read() -> None:
    with pytest.raises(_core.UnreadPart, match="is not a zip file"):
        part_of(saved(BASE, _use_new_zipfile_serialization=False))


def test_other_errors_pass() -> None:
    def readinto(offset: int, buffer: memoryview) -> int:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        _core.StoredPart(readinto, 1000)
    for wrong in ("7", -1, None):
        with pytest.raises(TypeError, match="number of bytes"):
            _core.StoredPart(lambda *_, wrong=wrong: wrong, 1000)  # type: ignore[misc]


def test_interrupt_stops_the_reading() -> None:
    data = saved(BASE)
    calls = 0

    def readinto(offset: int, buffer: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        given = data[offset : offset + len(buffer)]
        buffer[: len(given)] = given
        return len(given)

    with pytest.raises(KeyboardInterrupt):
        _core.StoredPart(readinto, len(data))


def test_every_changed_byte_is_detected_or_harmless() -> None:
    """torch loads a part with an undetected change as if it were unchanged."""
    tensor = torch.arange(6, dtype=torch.int16).view(2, 3).t()
    whole = saved(tensor)
    expected = part_of(whole).tensor()
    unnoticed = 0
    for at in range(len(whole)):
        for flip in (0x01, 0x10, 0x20, 0x80, 0xFF):
            data = bytearray(whole)
            data[at] ^= flip
            try:
                part = part_of(bytes(data))
                if part.damaged_member() is not None:
                    continue
                found = part.tensor()
            except _core.BadPart:
                continue
            unnoticed += 1
            assert found == expected, (at, flip)
            assert torch.equal(loaded(bytes(data)), tensor), (at, flip)
    assert unnoticed > 0


def test_every_truncation_is_rejected() -> None:
    whole = saved(torch.arange(6, dtype=torch.int16))
    for length in range(len(whole)):
        with pytest.raises(_core.BadPart):
            part_of(whole[:length]).tensor()


def zipped(pickled: bytes, storage: bytes = b"x" * 48) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", storage)
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def rebuilt(key: bytes, shape: bytes, strides: bytes) -> bytes:
    text = b"X" + struct.pack("<I", 7) + b"storage"
    device = b"X" + struct.pack("<I", 3) + b"cpu"
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + text + b"ctorch\nFloatStorage\n"
        + key + device + b"K\x0ctQK\x00(" + shape + b"t(" + strides
        + b"t\x89ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip


KEY = b"X\x01\x00\x00\x000"
HOSTILE = {
    # The text of a key that doubles 40 times.
    "a key of keys": rebuilt(b")" + b"q\x01h\x01\x86" * 40, b"K\x03", b"K\x01"),
    # (n - 1) * step bytes of a text or a tuple: a repetition.
    "a stride that is text": rebuilt(KEY, b"J\xff\xff\xff\x7f", b"X\x01\x00\x00\x00x"),
    "a stride that is a tuple": rebuilt(KEY, b"J\xff\xff\xff\x7f", b"K\x01\x85"),
    "a shape that is text": rebuilt(KEY, b"X\x01\x00\x00\x00x", b"J\xff\xff\xff\x7f"),
    "an int of many bits": rebuilt(KEY, b"K\x03", b"\x8a\xff" + b"\x7f" * 255),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_cheap(name: str) -> None:
    data = zipped(HOSTILE[name])
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(_core.BadPart):
            part_of(data).tensor()
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 2
