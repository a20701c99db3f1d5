"""The comparisons find what differs, and only that."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

from .comparison import count_entries, file_differences, tensor_differences, unchanged


def safetensors(keys: str, data: bytes) -> bytes:
    header = json.dumps({key: {"dtype": "U8"} for key in keys}).encode()
    return len(header).to_bytes(8, "little") + header + data


def metadata(keys: str, save: int = 0) -> bytes:
    entries = {key: BytesStorageMetadata() for key in keys}
    return pickle.dumps(Metadata(entries, storage_data={}, storage_meta=save))


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        ("0.distcp", b"bytes", b"bytes", True),
        ("0.distcp", b"bytes", b"bytez", False),
        ("0.safetensors", safetensors("ab", b"12"), safetensors("ba", b"12"), True),
        ("0.safetensors", safetensors("ab", b"12"), safetensors("ba", b"21"), False),
        ("0.safetensors", safetensors("ab", b"12"), safetensors("ac", b"12"), False),
        (".metadata", metadata("ab", save=1), metadata("ab", save=2), True),
        (".metadata", metadata("ab"), metadata("ba"), False),
        (".metadata", metadata("ab"), metadata("abc"), False),
    ],
)
def test_files(tmp_path: Path, name: str, one: bytes, other: bytes, same: bool) -> None:
    for folder, contents in (("one", one), ("other", other)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(contents)
    found = file_differences(tmp_path / "one", tmp_path / "other")
    assert found == ([] if same else [name])


@pytest.mark.parametrize("ordered", [True, False])
def test_the_order_of_storage_data(tmp_path: Path, ordered: bool) -> None:
    for folder, keys in (("one", "ab"), ("other", "ba")):
        (tmp_path / folder).mkdir()
        found: Any = Metadata({}, storage_data=dict.fromkeys(keys))
        (tmp_path / folder / ".metadata").write_bytes(pickle.dumps(found))
    differing = file_differences(tmp_path / "one", tmp_path / "other", ordered)
    assert differing == ([".metadata"] if ordered else [])


def test_attributes_that_a_caller_has_added(tmp_path: Path) -> None:
    for folder, plans in (("one", [1]), ("other", [2])):
        (tmp_path / folder).mkdir()
        found = Metadata({}, storage_data={})
        vars(found)["all_local_plans"] = plans
        (tmp_path / folder / ".metadata").write_bytes(pickle.dumps(found))
    assert file_differences(tmp_path / "one", tmp_path / "other", False) == [".metadata"]


def test_a_file_of_one_checkpoint_only(tmp_path: Path) -> None:
    (tmp_path / "one" / "deep").mkdir(parents=True)
    (tmp_path / "one" / "deep" / "0.distcp").write_bytes(b"")
    assert file_differences(tmp_path / "one", tmp_path / "other") == ["deep/0.distcp"]
    assert file_differences(tmp_path / "other", tmp_path / "one") == ["deep/0.distcp"]


def test_entries_of_all_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(metadata("abc"))
    for rank in range(2):
        (tmp_path / f"{rank}.safetensors").write_bytes(safetensors("xy", b""))
    assert count_entries(tmp_path) == 5


def test_tensors_are_compared_by_their_bits() -> None:
    ours = {name: torch.tensor([0.0, math.nan]) for name in "abcd"}
    theirs = {
        "a": torch.tensor([0.0, math.nan]),
        "b": torch.tensor([-0.0, math.nan]),
        "c": torch.tensor([0.0, math.nan], dtype=torch.float64),
        "e": torch.tensor([]),
    }
    assert tensor_differences(ours, theirs) == ["b", "c", "d", "e"]
    assert unchanged(ours, theirs) == ["a"]
