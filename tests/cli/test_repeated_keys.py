"""A key that storage_data has twice: upstream reads the last value, and ``verify`` says so."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import MetadataIndex

from .commands import copied, run, told
from .test_verify import loads

Pairs = list[tuple[MetadataIndex, _StorageInfo]]


class Twice(dict[MetadataIndex, _StorageInfo]):
    """A dict that is pickled as pairs, of which keys may come twice."""

    pairs: Pairs


class Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if type(obj) is not Twice:
            super().save(obj, save_persistent_id)
            return
        self.write(pickle.EMPTY_DICT)
        self.memoize(obj)
        self.write(pickle.MARK)
        for key, value in obj.pairs:
            self.save(key)
            self.save(value)
        self.write(pickle.SETITEMS)


def append(folder: Path, name: str, other: int | None, **changes: Any) -> _StorageInfo:
    """Appends the first key of a name again, its place changed; returns the place that it had.

    other: the index hint of the second key, which is no part of what keys are compared by
    """
    file = folder / ".metadata"
    metadata = pickle.loads(file.read_bytes())
    key = next(key for key in metadata.storage_data if key.fqn == name)
    was = metadata.storage_data[key]
    again = MetadataIndex(key.fqn, key.offset, other)
    assert again == key
    place = _StorageInfo(**{**vars(was), **changes})
    twice = Twice()
    twice.pairs = [*metadata.storage_data.items(), (again, place)]
    metadata.storage_data = twice
    into = io.BytesIO()
    Pickler(into, protocol=4).dump(metadata)
    file.write_bytes(into.getvalue())
    read = dcp.FileSystemReader(folder).read_metadata().storage_data
    assert read[key] == place, "upstream reads the last value"
    assert len(read) == len(twice.pairs) - 1
    return was  # type: ignore[no-any-return]


@pytest.mark.parametrize("hint", [None, 0, 1, 7])
@pytest.mark.parametrize("name", ["model.half", "model.grid", "step"])
def test_the_last_place_is_the_one_that_is_looked_at(
    checkpoint: Path, tmp_path: Path, name: str, hint: int | None
) -> None:
    folder = copied(checkpoint, tmp_path / "twice")
    was = append(folder, name, hint, relative_path="absent.distcp")
    data = told("verify", folder, status=1)
    assert not data["sound"]
    (found,) = data["repeated_keys"]
    assert found["name"] == name
    assert found["ignored"] == {
        "file": was.relative_path,
        "begin": was.offset,
        "bytes": was.length,
    }
    assert found["read"]["file"] == "absent.distcp"
    assert [one["name"] for one in data["problems"]["no file"]] == [name]
    assert [one["name"] for one in data["lost"]] == [name]
    done = run("verify", folder)
    assert done.status == 1
    assert "1 storage_data item is ignored, because a later one has the same key" in done.out
    assert "absent.distcp" in done.out
    if name != "step":
        assert not loads(folder, name)
    box = told("inspect", folder, "--tensor", name)["boxes"][0]
    assert box["file"] == "absent.distcp"


def test_a_first_place_that_is_broken_is_not_read(checkpoint: Path, tmp_path: Path) -> None:
    """The other way round: everything loads, and the file is still not what DCP writes."""
    folder = copied(checkpoint, tmp_path / "twice")
    append(folder, "model.half", None, offset=2**40)
    # The place that is broken comes first now.
    file = folder / ".metadata"
    metadata = pickle.loads(file.read_bytes())
    good = told("inspect", checkpoint, "--tensor", "model.half")["boxes"][0]
    append(folder, "model.half", 3, offset=good["begin"])
    assert metadata.storage_data[MetadataIndex("model.half", [0])].offset == 2**40
    data = told("verify", folder, "--deep", status=1)
    assert (data["problems"], data["lost"], data["shared_bytes"]) == ({}, [], [])
    assert (len(data["repeated_keys"]), data["loadable"]) == (1, 5)
    assert loads(folder, "model.half")
    assert "damaged, but nothing is lost" in run("verify", folder).out


def test_a_key_that_comes_three_times(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "thrice")
    file = folder / ".metadata"
    metadata = pickle.loads(file.read_bytes())
    key = next(key for key in metadata.storage_data if key.fqn == "model.half")
    was = metadata.storage_data[key]
    twice = Twice()
    twice.pairs = list(metadata.storage_data.items())
    for at in (1, 2):
        twice.pairs.append((key, _StorageInfo(f"{at}.distcp", was.offset, was.length)))
    metadata.storage_data = twice
    into = io.BytesIO()
    Pickler(into, protocol=4).dump(metadata)
    file.write_bytes(into.getvalue())
    data = told("verify", folder, status=1)
    assert [one["ignored"]["file"] for one in data["repeated_keys"]] == [
        was.relative_path,
        "1.distcp",
    ]
    assert {one["read"]["file"] for one in data["repeated_keys"]} == {"2.distcp"}
    assert (
        "2 storage_data items are ignored, because a later one has the same key"
        in run("verify", folder).out
    )


def test_no_key_comes_twice_in_what_upstream_writes(checkpoint: Path) -> None:
    assert told("verify", checkpoint)["repeated_keys"] == []
