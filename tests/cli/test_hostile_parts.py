"""``verify --deep`` rejects parts that would cost more than their bytes."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import MetadataIndex

from .commands import copied, json_of, run

# A gigabyte of addresses, and 15 seconds of work.
_LIMITS = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (15, 15))
"""
_TEXT = b"X\x01\x00\x00\x00"
_STORAGE = b"X\x07\x00\x00\x00storage"
_CPU = b"X\x03\x00\x00\x00cpu"


def tensor(key: bytes, shape: bytes, strides: bytes) -> bytes:
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + _STORAGE + b"ctorch\nFloatStorage\n"
        + key + _CPU + b"K\x05tQK\x00(" + shape + b"t(" + strides
        + b"t\x89ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip


def zipped(pickled: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", b"x" * 20)
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def key_of_doubled_tuples() -> bytes:
    """The text of the key has more than 2^40 letters."""
    return zipped(tensor(b")" + b"q\x01h\x01\x86" * 40, b"K\x05", b"K\x01"))


def stride_that_is_a_text() -> bytes:
    """The stride is a letter, repeated 2^31 - 2 times."""
    return zipped(tensor(_TEXT + b"0", b"J\xff\xff\xff\x7f", _TEXT + b"x"))


def one_member_of_many_names() -> bytes:
    """60,000 names of one megabyte: a file of five megabytes with 60 gigabytes to read."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/1000000", b"x" * (1 << 20))
    whole = stream.getvalue()
    begin = whole.index(b"PK\x01\x02")
    record = whole[begin : whole.index(b"PK\x05\x06")]
    names = [f"archive/{1_000_000 + at}".encode() for at in range(60_000)]
    directory = b"".join(record[:46] + name for name in names)
    end = struct.pack(
        "<4s4H2IH", b"PK\x05\x06", 0, 0, len(names), len(names), len(directory), begin, 0
    )
    return whole[:begin] + directory + end


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (key_of_doubled_tuples, "storage key that is not a string"),
        (stride_that_is_a_text, "strides with a value that is not a 64-bit int"),
        (one_member_of_many_names, "overlaps the next record"),
    ],
)
def test_cost_is_bounded_by_the_bytes(
    checkpoint: Path, tmp_path: Path, made: Any, message: str
) -> None:
    folder = copied(checkpoint, tmp_path / "hostile")
    data = made()
    (folder / "hostile").write_bytes(data)
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    location = next(
        location for key, location in metadata.storage_data.items() if key.fqn == "model.half"
    )
    location.relative_path, location.offset, location.length = "hostile", 0, len(data)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    done = run("verify", folder, "--deep", before=_LIMITS)
    assert done.status == 1
    assert message in done.out


def test_a_part_of_many_entries_is_read_once(checkpoint: Path, tmp_path: Path) -> None:
    """For a file of 64 MiB, 300 boxes would be 19 GB to read."""
    folder = copied(checkpoint, tmp_path / "hostile")
    data = zipped(b"x" * (1 << 26))
    (folder / "hostile").write_bytes(data)
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    saved = metadata.state_dict_metadata
    location = next(
        location for key, location in metadata.storage_data.items() if key.fqn == "model.half"
    )
    for at in range(300):
        saved[f"again.{at}"] = saved["model.half"]
        metadata.storage_data[MetadataIndex(f"again.{at}", torch.Size([0]))] = type(location)(
            "hostile", 0, len(data)
        )
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    done = run("verify", folder, "--deep", before=_LIMITS)
    assert done.status == 1
    assert "299 boxes share bytes with earlier parts, and were not read" in done.out


def test_parts_without_checksums_are_reported(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        dcp.save({"a": torch.ones(3), "b": torch.ones(2)}, checkpoint_id=tmp_path, no_dist=True)
    finally:
        torch.serialization.set_crc32_options(True)
    done = run("verify", tmp_path, "--deep")
    assert done.status == 0
    assert "2 parts have no checksum, so damage may be undetected" in done.out
    assert json_of("verify", tmp_path, "--deep")["without_checksums"] == 2
