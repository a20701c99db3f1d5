"""Metadata of a directory of safetensors files, against upstream's ``read_metadata``."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

import shardplan
from parity.comparison import assert_same
from parity.test_read_data import DTYPES
from shardplan.dcp import fallbacks
from shardplan.dcp.upstream import originals

pytest.importorskip("safetensors", reason="the format needs its library")
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
# The library writes it, and its function that upstream calls does not know it.
UNKNOWN_DTYPE = "float8_e8m0fnu"


@pytest.fixture(autouse=True)
def counted() -> Any:
    fallbacks.clear()
    yield
    fallbacks.clear()


def write(folder: Path, name: str, tensors: Tensors, offsets: Any = None) -> None:
    """Writes a file. ``offsets``: per tensor, its offset within the complete one."""
    extra = {"format": "pt"}
    if offsets is not None:
        info = {key: {"saved_offsets": offset} for key, offset in offsets.items()}
        extra["DCP_SHARDING_INFO"] = json.dumps(info)
    save_file(tensors, folder / f"{name}.safetensors", extra)


def outcome(reader: Any) -> Any:
    try:
        metadata = reader.read_metadata()
    except Exception as error:
        return type(error), str(error)
    metadata.storage_meta = None  # it has an id that differs
    return metadata


def check(folder: Path) -> Any:
    """Compares the outcomes, and returns upstream's."""
    expected = outcome(dcp.HuggingFaceStorageReader(str(folder)))
    assert_same(outcome(shardplan.HuggingFaceStorageReader(str(folder))), expected)
    with shardplan.registered():
        assert dcp.HuggingFaceStorageReader.read_metadata is not originals.hf_reader_read_metadata
        assert_same(outcome(dcp.HuggingFaceStorageReader(str(folder))), expected)
    assert dcp.HuggingFaceStorageReader.read_metadata is originals.hf_reader_read_metadata
    return expected


def complete(folder: Path) -> None:
    write(folder, "b", {"z": torch.ones(2, 3), "a": torch.ones(()), "m.x": torch.ones(0, 4)})
    write(folder, "a", {"y": torch.ones(5)})
    (folder / "notes.txt").write_text("not a checkpoint")


def sharded(folder: Path) -> None:
    write(folder, "0", {"w": torch.ones(2, 3), "s": torch.ones(())}, {"w": [0, 0], "s": []})
    write(folder, "1", {"w": torch.ones(3, 3), "v": torch.ones(1)}, {"w": [2, 0], "v": [4]})
    write(folder, "2", {"w": torch.ones(5, 2), "v": torch.ones(4)}, {"w": [0, 3], "v": [0]})


def twice(folder: Path) -> None:
    write(folder, "0", {"w": torch.ones(2)})
    write(folder, "1", {"w": torch.ones(3, dtype=torch.float64)})


def all_dtypes(folder: Path) -> None:
    supported = {dtype.removeprefix("torch.") for dtype in map(str, DTYPES)}
    for name in sorted(supported & set(shardplan.dcp.native.native.safetensors_dtypes())):
        if name != UNKNOWN_DTYPE:
            write(folder, name, {name: torch.zeros(2, dtype=getattr(torch, name))})


PLAIN: dict[str, Callable[[Path], None]] = {
    "complete tensors": complete,
    "shards": sharded,
    "a name twice": twice,
    "every dtype": all_dtypes,
    "no file": lambda folder: None,
    "no tensors": lambda folder: write(folder, "0", {}),
    "negative offset": lambda folder: write(folder, "0", {"w": torch.ones(2)}, {"w": [-1]}),
    "other names in the offsets": lambda folder: write(
        folder, "0", {"w": torch.ones(2)}, {"w": [1], "x": "?"}
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain(name: str, tmp_path: Path) -> None:
    PLAIN[name](tmp_path)
    found = check(tmp_path)
    assert type(found) is dcp.Metadata
    assert not shardplan.fallbacks()
    assert_same(pickle.loads(pickle.dumps(found)), found)


def test_every_dtype_is_read(tmp_path: Path) -> None:
    all_dtypes(tmp_path)
    assert len(check(tmp_path).state_dict_metadata) > 10


def broken_file(folder: Path) -> None:
    complete(folder)
    (folder / "c.safetensors").write_bytes(b"\xff" * 40)


def broken_info(folder: Path) -> None:
    save_file({"w": torch.ones(2)}, folder / "a.safetensors", {"DCP_SHARDING_INFO": "{"})


def no_dict(folder: Path) -> None:
    save_file({"w": torch.ones(2)}, folder / "a.safetensors", {"DCP_SHARDING_INFO": "[1]"})


def offsets_of(offset: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder, "0", {"w": torch.ones(2, 2)}, {"w": offset})


def other_dims(folder: Path) -> None:
    write(folder, "0", {"w": torch.ones(2, 3)})
    write(folder, "1", {"w": torch.ones(4)})


UNUSUAL: dict[str, Callable[[Path], None]] = {
    "a broken file": broken_file,
    "broken information": broken_info,
    "information that is a list": no_dict,
    "a tensor without information": lambda folder: write(folder, "0", {"w": torch.ones(2)}, {}),
    "other dims": other_dims,
    "a dtype that upstream does not know": lambda folder: write(
        folder, "0", {"w": torch.zeros(2, dtype=getattr(torch, UNKNOWN_DTYPE))}
    ),
    "offset of fewer dims": offsets_of([1]),
    "offset of more dims": offsets_of([1, 2, 3]),
    "offset of bools": offsets_of([True, False]),
    "offset of floats": offsets_of([0.5, 1.0]),
    "offset of texts": offsets_of(["a", "b"]),
    "end beyond int64": offsets_of([2**63 - 1, 0]),
    "no offset": offsets_of(None),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual(name: str, tmp_path: Path) -> None:
    UNUSUAL[name](tmp_path)
    check(tmp_path)


def test_what_upstream_reads_is_counted(tmp_path: Path) -> None:
    other_dims(tmp_path)
    outcome(shardplan.HuggingFaceStorageReader(str(tmp_path)))
    assert list(shardplan.fallbacks()) == ["metadata of safetensors files: a header cannot be read"]


def test_a_replaced_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.checkpoint import hf_storage

    complete(tmp_path)
    monkeypatch.setattr(hf_storage, "Metadata", lambda **given: dcp.Metadata(**given))
    check(tmp_path)
    assert next(iter(shardplan.fallbacks())).endswith("hf_storage.Metadata was replaced")


def test_a_subclass_keeps_its_own(tmp_path: Path) -> None:
    class Reader(dcp.HuggingFaceStorageReader):
        def read_metadata(self) -> dcp.Metadata:
            metadata = super().read_metadata()
            metadata.planner_data = "mine"
            return metadata

    complete(tmp_path)
    with shardplan.registered():
        assert Reader(str(tmp_path)).read_metadata().planner_data == "mine"
