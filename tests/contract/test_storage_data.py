"""``Metadata.storage_data`` as a lazy dict."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.storage import WriteResult

from shardplan.dcp.lazy.items import LazyList
from shardplan.dcp.lazy.storage_data import StorageData, merge
from shardplan.dcp.native import native


class OtherIndex(MetadataIndex):
    """A key whose class makes it unequal to every upstream key."""


def index(
    fqn: str, offset: list[int] | None = None, chunk_index: int | None = None
) -> MetadataIndex:
    return MetadataIndex(fqn, offset, chunk_index)


def results_of(rank: int) -> list[WriteResult]:
    path = f"__{rank}_0.distcp"
    keys = [index("w", [4 * rank, 0], rank), index("v", [rank], rank), index(f"b{rank}")]
    return [
        WriteResult(key, 10 + at, _StorageInfo(path, 100 * at, 10 + at))
        for at, key in enumerate(keys)
    ]


RESULTS = [results_of(rank) for rank in range(3)]


def upstreams(results: list[list[WriteResult]]) -> dict[Any, Any]:
    data: dict[Any, Any] = {}
    for of_rank in results:
        data.update({result.index: result.storage_data for result in of_rank})
    return data


def ours() -> StorageData:
    data = merge([list(of_rank) for of_rank in RESULTS])
    assert type(data) is StorageData
    return data


def is_lazy(data: StorageData) -> bool:
    return data.columns() is not None


def test_is_a_dict_that_lookups_do_not_materialize() -> None:
    data, expected = ours(), upstreams(RESULTS)
    assert isinstance(data, dict)
    assert len(data) == len(expected) == 9
    assert bool(data)
    for key, location in expected.items():
        assert key in data
        assert data[key] == location == data.get(key)
    assert is_lazy(data)


@pytest.mark.parametrize(
    "key",
    [
        index("w", [0, 0], 2),  # another chunk_index, the same key
        index("w", [8, 0]),
        index("b1", None, 7),
    ],
)
def test_chunk_indices_are_not_part_of_a_key(key: MetadataIndex) -> None:
    assert ours()[key] == upstreams(RESULTS)[key]


@pytest.mark.parametrize(
    "key",
    [
        index("w"),
        index("w", [0]),
        index("w", [1, 0], 0),
        index("x", [0, 0]),
        index("b0", []),
        "w",
        None,
        OtherIndex("w", [0, 0]),
    ],
)
def test_missing_keys(key: Any) -> None:
    data, expected = ours(), upstreams(RESULTS)
    assert key not in expected
    assert key not in data
    assert data.get(key) is None
    assert data.get(key, 5) == 5
    with pytest.raises(KeyError) as found:
        data[key]
    assert found.value.args == (key,)


def test_unhashable_key() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        ours()[[]]
    with pytest.raises(TypeError, match="unhashable"):
        [] in ours()  # noqa: B015


def test_returned_locations_keep_their_identity() -> None:
    data = ours()
    key = index("v", [1])
    location = data[key]
    assert data[key] is location
    assert dict(data)[key] is location
    assert list(data.values())[4] is location


def test_changes_by_a_caller_are_kept() -> None:
    data = ours()
    data[index("v", [1])].relative_path = "elsewhere"
    assert data.columns() is None
    assert dict(data)[index("v", [1])].relative_path == "elsewhere"
    assert [location.relative_path for location in data.values()].count("elsewhere") == 1


TOUCHES: dict[str, Callable[[Any], Any]] = {
    "dict": dict,
    "unpacked": lambda data: {**data},
    "list": list,
    "items": lambda data: list(data.items()),
    "keys": lambda data: list(data.keys()),
    "values": lambda data: list(data.values()),
    "reversed": lambda data: list(reversed(data)),
    "copy": lambda data: data.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda data: pickle.loads(pickle.dumps(data)),
    "or": lambda data: data | {1: 2},
    "ror": lambda data: {1: 2} | data,
    "updated": lambda data: [dict_ := {}, dict_.update(data)][0],
    "repr": repr,
    "equal": lambda data: data == upstreams(RESULTS),
    "sorted": lambda data: sorted(data, key=repr),
}


@pytest.mark.parametrize("name", TOUCHES)
def test_access(name: str) -> None:
    data = ours()
    found, expected = TOUCHES[name](data), TOUCHES[name](upstreams(RESULTS))
    assert found == expected
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        assert [getattr(key, "index", 0) for key in found] == [
            getattr(key, "index", 0) for key in expected
        ]


CHANGES: dict[str, Callable[[Any], Any]] = {
    "set": lambda data: data.__setitem__(index("new"), 1),
    "set again": lambda data: data.__setitem__(index("v", [1]), 1),
    "delete": lambda data: data.__delitem__(index("v", [1])),
    "pop": lambda data: data.pop(index("v", [1])),
    "popitem": lambda data: data.popitem(),
    "clear": lambda data: data.clear(),
    "update": lambda data: data.update({index("new"): 1}),
    "setdefault": lambda data: data.setdefault(index("v", [1]), 1),
    "ior": lambda data: data.__ior__({index("new"): 1}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changing(name: str) -> None:
    data, expected = ours(), upstreams(RESULTS)
    assert CHANGES[name](data) == CHANGES[name](expected)
    assert data == expected
    assert list(data) == list(expected)
    assert data.columns() is None


def test_pickles_as_a_dict() -> None:
    loaded = pickle.loads(pickle.dumps(ours()))
    assert type(loaded) is dict
    assert loaded == upstreams(RESULTS)


def test_the_last_of_equal_keys_keeps_the_position_of_the_first() -> None:
    results = [results_of(0), results_of(1), results_of(0)]
    for result in results[2]:
        result.storage_data.relative_path = "again"
    data, expected = merge(results), upstreams(results)
    assert type(data) is StorageData
    assert list(data.items()) == list(expected.items())
    assert [key.index for key in data] == [key.index for key in expected]


@pytest.mark.parametrize(
    "unusual",
    [
        WriteResult(index("unusual"), 7, _StorageInfo("p", 0, 8)),
        WriteResult(index("unusual"), 8, _StorageInfo("p", 0, 8, ["zstd"])),
        WriteResult(index("unusual"), 8, "anywhere"),
        WriteResult(OtherIndex("unusual"), 8, _StorageInfo("p", 0, 8)),
        WriteResult(index("unusual"), 8, _StorageInfo("p", 0, 2**70)),
    ],
)
def test_unusual_results_are_merged_as_upstream_merges_them(unusual: WriteResult) -> None:
    results = [*RESULTS, [unusual]]
    data = merge(results)
    assert type(data) is dict
    assert data == upstreams(results)
    assert merge([LazyList(of_rank) for of_rank in results]) == data


def test_no_results() -> None:
    assert merge([]) == {}
    assert merge([[], []]) == {}
    assert len(merge([[]])) == 0


def test_two_threads_materialize_it_once() -> None:
    data = ours()
    key = index("w", [0, 0])
    found: list[Any] = []
    start = threading.Barrier(8)

    def access(at: int) -> None:
        start.wait()
        found.append(data[key] if at % 2 else dict(data)[key])

    threads = [threading.Thread(target=access, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(location is found[0] for location in found)


def test_columns_of_a_dict_with_offsets_of_any_length() -> None:
    data = {
        index("a", [1] * ndim, ndim): _StorageInfo("p", 2**40 + ndim, -ndim) for ndim in range(65)
    }
    columns = native.storage_columns(data)
    assert columns is not None
    assert list(StorageData.from_columns(columns).items()) == list(data.items())
    assert native.storage_columns({index("a", [1] * 65): _StorageInfo("p", 0, 0)}) is None
    assert StorageData.from_columns(columns)[index("a", torch.Size([1] * 64))].offset == 2**40 + 64
