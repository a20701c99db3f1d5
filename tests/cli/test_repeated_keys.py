"""storage_data has a key twice: upstream reads the last value, and ``verify`` reports it."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import MetadataIndex

from .commands import copied, json_of, run
from .test_verify import loads

Pairs = list[tuple[MetadataIndex, _StorageInfo]]


class Twice(dict[MetadataIndex, _StorageInfo]):
    """A dict that is pickled as pairs, in which a key may occur twice."""

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
    """Appends the first key of a name again, with a changed location. Returns the old location.

    other: the chunk index of the second key, which does not take part in the comparison of keys
    """
    file = folder / ".metadata"
    metadata = pickle.loads(file.read_bytes())
    key = next(key for key in metadata.storage_data if key.fqn == name)
    was = metadata.storage_data[key]
    again = MetadataIndex(key.fqn, key.offset, other)
    assert again == key
    location = _StorageInfo(**{**vars(was), **changes})
    twice = Twice()
    twice.pairs = [*metadata.storage_data.items(), (again, location)]
    metadata.storage_data = twice
    into = io.BytesIO()
    Pickler(into, protocol=4).dump(metadata)
    file.write_bytes(into.getvalue())
    read = dcp.FileSystemReader(folder).read_metadata().storage_data
    assert read[key] == location, "upstream reads the last value"
    assert len(read) == len(twice.pairs) - 1
    return was  # type: ignore[no-any-return]


@pytest.mark.parametrize("chunk_index", [None, 0, 1, 7])
@pytest.mark.parametrize("name", ["model.half", "model.grid", "step"])
def test_the_last_location_is_used(
    checkpoint: Path, tmp_path: Path, name: str, chunk_index: int | None
) -> None:
    folder = copied(checkpoint, tmp_path / "twice")
    was = append(folder, name, chunk_index, relative_path="absent.distcp")
    data = json_of("verify", folder, status=1)
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
    box = json_of("inspect", folder, "--tensor", name)["boxes"][0]
    assert box["file"] == "absent.distcp"


def test_a_broken_first_location_is_not_read(checkpoint: Path, tmp_path: Path) -> None:
    """Everything loads, but DCP does not write such a file."""
    folder = copied(checkpoint, tmp_path / "twice")
    append(folder, "model.half", None, offset=2**40)
    # The broken location comes first now.
    file = folder / ".metadata"
    metadata = pickle.loads(file.read_bytes())
    good = json_of("inspect", checkpoint, "--tensor", "model.half")["boxes"][0]
    append(folder, "model.half", 3, offset=good["begin"])
    assert metadata.storage_data[MetadataIndex("model.half", [0])].offset == 2**40
    data = json_of("verify", folder, "--deep", status=1)
    assert (data["problems"], data["lost"], data["shared_bytes"]) == ({}, [], [])
    assert (len(data["repeated_keys"]), data["loadable"]) == (1, 5)
    assert loads(folder, "model.half")
    assert "damaged, but nothing is lost" in run("verify", folder).out


def test_a_key_that_occurs_three_times(checkpoint: Path, tmp_path: Path) -> None:
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
    data = json_of("verify", folder, status=1)
    assert [one["ignored"]["file"] for one in data["repeated_keys"]] == [
        was.relative_path,
        "1.distcp",
    ]
    assert {one["read"]["file"] for one in data["repeated_keys"]} == {"2.distcp"}
    assert (
        "2 storage_data items are ignored, because a later one has the same key"
        in run("verify", folder).out
    )


def test_upstream_writes_no_key_twice(checkpoint: Path) -> None:
    assert json_of("verify", checkpoint)["repeated_keys"] == []
