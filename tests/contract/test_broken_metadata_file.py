"""Broken, hostile and missing metadata files."""

from __future__ import annotations

import io
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

import shardplan
from contract.test_metadata_file import metadata, read, written
from parity.unreadable_metadata import words_of_a_load


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def rejection(pickled: bytes) -> str | None:
    """Returns the message of the error that rejects a pickle."""
    try:
        found = read(pickled)
        if isinstance(getattr(found, "storage_data", None), dict):
            list(found.storage_data.items())
        for entry in getattr(found, "state_dict_metadata", None) or ():
            repr(entry)
    except pickle.UnpicklingError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", ["ours", "upstream"])
def test_truncated(kind: str) -> None:
    whole = written(metadata()) if kind == "ours" else pickle.dumps(metadata(), 2)
    for length in range(len(whole)):
        problem = rejection(whole[:length])
        assert problem is not None
        assert problem.startswith("here/.metadata cannot be read: it is truncated, at byte")


@pytest.mark.parametrize("kind", ["ours", "upstream"])
def test_changed_bits(kind: str) -> None:
    """Each file is rejected with its name, or it is read, because a changed number may be valid."""
    whole = written(metadata()) if kind == "ours" else pickle.dumps(metadata())
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        problem = rejection(bytes(changed))
        assert problem is None or problem.startswith("here/.metadata")


def test_frames_are_rejected_as_by_pickle() -> None:
    """CPython's unpickler requires a complete frame, and lets opcodes cross its end."""
    whole = pickle.dumps(metadata(), 4)
    at = whole.index(pickle.FRAME) + 1
    length = int.from_bytes(whole[at : at + 8], "little")
    assert at + 8 + length == len(whole)
    lengths = {0, 1, 7, *range(length - 1, length + 2), 2**63, 2**64 - 1}
    lengths |= {length ^ 1 << bit for bit in range(64)}
    for claimed in sorted(lengths):
        for after in (b"", b"x", bytes(1000)):
            changed = whole[:at] + claimed.to_bytes(8, "little") + whole[at + 8 :] + after
            try:
                pickle.loads(changed)
                upstream = None
            except (pickle.UnpicklingError, OverflowError) as error:
                upstream = error
            problem = rejection(changed)
            assert (problem is None) == (upstream is None), (claimed, upstream, problem)
            if problem is not None:
                assert f"it is truncated, at byte {len(changed)}" in problem


def test_nested_frames_are_rejected_as_by_pickle() -> None:
    whole = pickle.dumps(metadata(), 4)
    body = whole[11:]
    for first in (0, 1, 9, 10, len(body) + 9, len(body) + 10):
        for second in (0, 1, len(body), len(body) + 1):
            frames = b"".join(pickle.FRAME + one.to_bytes(8, "little") for one in (first, second))
            changed = b"\x80\x04" + frames + body
            try:
                pickle.loads(changed)
                upstream = None
            except pickle.UnpicklingError as error:
                upstream = error
            assert (rejection(changed) is None) == (upstream is None), (first, second)


def test_no_global_of_a_file_is_called(tmp_path: Path) -> None:
    saved = metadata()
    saved.planner_data = Payload(tmp_path / "made")
    pickled = pickle.dumps(saved)
    problem = rejection(pickled)
    assert problem is not None
    assert f"{os.mkdir.__module__}.mkdir" in problem
    assert "at byte" in problem
    assert "trust=True" in problem
    assert not (tmp_path / "made").exists()
    read(pickled, trust=True)
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x04ctorch\nfloat_power\n.",
        b"\x80\x04ctorch\nint_repr\n.",
        b"\x80\x04c_codecs\nencode\n.",
        b"\x80\x04ctorch.serialization\n_get_layout\nX\x02\x00\x00\x00os\x85R.",
        b"\x80\x04ctorch.serialization\n_get_layout\nX\x0a\x00\x00\x00torch.load\x85R.",
        b"\x80\x04ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\nK\x63\x85R.",
        b"\x80\x04ctorch.distributed.checkpoint.metadata\nTensorProperties\n)\x81K\x01b.",
        b"\x80\x04ctorch.distributed.checkpoint.metadata\nMetadata\n)\x81K\x01b.",
        b"\x80\x04cpathlib\nPosixPath\nK\x01\x85R.",
        b"\x80\x04cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
        b"\x80\x04}]K\x01s.",
        b"\x80\x04\x8f(]\x90.",
        b"\x80\x04(]\x91.",
        b"\x80\x04X\x01\x00\x00\x00\xff.",
        b"\x80\x04" + b"]" * 600 + b"a" * 599 + b".",
        b"",
        b"{}",
        b'{"metadata": {}}',
        b"\x00" * 100,
    ],
)
def test_hostile(pickled: bytes) -> None:
    problem = rejection(pickled)
    assert problem is not None
    assert problem.startswith("here/.metadata cannot be read: it ")


def test_the_class_attribute_is_kept() -> None:
    """A state that names ``__class__`` is put into the object's dict, as ``pickle`` does."""
    cls = b"ctorch.distributed.checkpoint.metadata\n"
    state = b"}X\x09\x00\x00\x00__class__" + cls + b"StorageMeta\ns"
    pickled = b"\x80\x02" + cls + b"BytesStorageMetadata\n)\x81" + state + b"b."
    found, expected = read(pickled), pickle.loads(pickled)
    assert type(found) is type(expected)
    assert vars(found) == vars(expected)


def test_an_error_of_the_stream_is_unchanged() -> None:
    class Failing(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            raise OSError(5, "the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        shardplan.dcp.storage.metadata_file.load(Failing(), "x", False)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        shardplan.FileSystemReader(tmp_path).read_metadata()
    with pytest.raises(FileNotFoundError):
        shardplan.FileSystemReader(tmp_path / "none").read_metadata(rank=3)


def test_a_folder_instead_of_the_file(tmp_path: Path) -> None:
    (tmp_path / ".metadata").mkdir()
    with pytest.raises(IsADirectoryError):
        shardplan.FileSystemReader(tmp_path).read_metadata()


def test_a_load_reports_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dcp.save({"a": torch.ones(3)}, checkpoint_id=tmp_path, no_dist=True)
    whole = (tmp_path / ".metadata").read_bytes()
    (tmp_path / ".metadata").write_bytes(whole[:-5])
    reason = ".metadata cannot be read: it is truncated"
    with pytest.raises(CheckpointException, match=re.escape(words_of_a_load(reason))):
        reader = shardplan.FileSystemReader(tmp_path)
        dcp.load({"a": torch.zeros(3)}, storage_reader=reader, no_dist=True)
    # Some torch drops the reason.
    assert reason in caplog.text


def test_objects_that_share_one_state_are_bounded(tmp_path: Path) -> None:
    """3,000 objects share 3,000 attributes: nine million attributes from a file of 60 kB."""
    count = 3_000
    state = (
        b"}"
        + pickle.MARK
        + b"".join(
            pickle.BINUNICODE + len(name).to_bytes(4, "little") + name + pickle.NONE
            for name in (b"a%d" % at for at in range(count))
        )
        + pickle.SETITEMS
    )
    shared = b"r\x01\x00\x00\x00"  # LONG_BINPUT 1
    cls = b"ctorch.distributed.checkpoint.metadata\nStorageMeta\n"
    one = b"h\x02)\x81j\x01\x00\x00\x00b"  # class, (), NEWOBJ, the state, BUILD
    metadata = b"ctorch.distributed.checkpoint.metadata\nMetadata\n)\x81}("
    pickled = (
        b"\x80\x02"
        + state
        + shared
        + b"0"
        + cls
        + b"q\x020"
        + metadata
        + pickle.BINUNICODE
        + b"\x04\x00\x00\x00many"
        + b"]("
        + one * count
        + b"eub."
    )
    assert len(pickle.loads(pickled).many) == count
    path = tmp_path / ".metadata"
    path.write_bytes(pickled)
    with pytest.raises(pickle.UnpicklingError, match="has so many objects with the same state"):
        shardplan.FileSystemReader(tmp_path).read_metadata()
