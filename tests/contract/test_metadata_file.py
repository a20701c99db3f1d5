"""The metadata file: upstream and shardplan read each other's files."""

from __future__ import annotations

import collections
import io
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch
from torch.distributed._shard.sharded_tensor import metadata as sharded_metadata
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

from benchmarks.workloads import LLAMA3_8B, fsdp, fsdp_tp, llama, with_adam
from benchmarks.workloads.saved import saved_metadata
from contract.metadata_files import read, written
from parity.comparison import assert_same
from parity.save_items import bytes_item, shard_item
from pickled import globals_of
from shardplan.dcp.lazy.items import LazyList
from shardplan.dcp.lazy.storage_data import StorageData
from shardplan.dcp.native import native
from shardplan.dcp.storage import metadata_file


class OtherBytes(BytesStorageMetadata):
    """A class that no metadata reader knows."""


def chunk(offsets: list[int], sizes: list[int]) -> ChunkStorageMetadata:
    return ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))


def tensor(size: list[int], *chunks: ChunkStorageMetadata, **properties: Any) -> Any:
    return TensorStorageMetadata(TensorProperties(**properties), torch.Size(size), list(chunks))


def metadata() -> Metadata:
    entries = {
        "model.w": tensor([4, 3], chunk([0, 0], [2, 3]), chunk([2, 0], [2, 3])),
        "model.b": tensor([], chunk([], []), dtype=torch.bfloat16, requires_grad=True),
        "empty": tensor([0], dtype=torch.float8_e4m3fn),
        "large": tensor([2**40], chunk([2**39], [2**39]), memory_format=torch.channels_last),
        "step": BytesStorageMetadata(),
    }
    locations = {
        MetadataIndex("model.w", [0, 0], 0): _StorageInfo("__0_0.distcp", 0, 300),
        MetadataIndex("model.w", [2, 0], 1): _StorageInfo("__1_0.distcp", 2**33, 70_000),
        MetadataIndex("model.b", [], 0): _StorageInfo("__0_0.distcp", 300, 1),
        MetadataIndex("step"): _StorageInfo("__0_0.distcp", 301, 0),
    }
    for location in locations.values():
        del location.transform_descriptors  # A sent location has no such attribute.
    mappings = {"model.w": ("model", "w"), "model.b": ("model", "b"), "step": ("step", 0)}
    meta = StorageMeta(PurePosixPath("/a/b"), "id", modules=["m"])
    return Metadata(entries, mappings, locations, meta, "1.0.0")


def check_both_ways(saved: Any) -> None:
    """Each implementation reads the other's file, and shardplan reads its own."""
    expected = pickle.loads(pickle.dumps(saved))
    assert_same(read(pickle.dumps(saved)), expected)
    ours = written(saved)
    assert_same(pickle.loads(ours), expected)
    assert_same(read(ours), expected)
    assert globals_of(ours) == globals_of(pickle.dumps(saved))


@pytest.mark.parametrize("ndim", [64, 65, 254])
@pytest.mark.parametrize("protocol", [2, 4])
def test_sizes_of_many_dims(ndim: int, protocol: int) -> None:
    saved = metadata()
    offsets, sizes = list(range(ndim)), [1] * ndim
    saved.state_dict_metadata["many"] = tensor([1000] * ndim, chunk(offsets, sizes))
    assert saved.storage_data is not None
    saved.storage_data[MetadataIndex("many", offsets, 0)] = _StorageInfo("__0_0.distcp", 0, 1)
    check_both_ways(saved)
    pickled = pickle.dumps(saved, protocol)
    assert_same(read(pickled), pickle.loads(pickled))
    sent = pickle.loads(pickle.dumps(read(pickled)))
    assert_same(sent, pickle.loads(pickled))


def test_a_trusted_size_of_too_many_dims_is_read_by_pickle() -> None:
    saved = metadata()
    saved.state_dict_metadata["many"] = tensor([1] * 255)
    pickled = pickle.dumps(saved)
    message = r"torch\.Size of 255 dims \(the limit is 254\), at byte .*trust=True"
    with pytest.raises(pickle.UnpicklingError, match=message):
        read(pickled)
    assert_same(read(pickled, trust=True), pickle.loads(pickled))


def test_plain() -> None:
    saved = metadata()
    columns = native.saved_metadata(saved.state_dict_metadata)
    assert columns is not None
    assert columns.objects == []
    check_both_ways(saved)
    found = read(pickle.dumps(saved))
    assert type(found.storage_data) is StorageData
    assert found.storage_data.columns() is not None
    assert type(found.state_dict_metadata) is dict
    assert all(
        type(entry.chunks) is LazyList and entry.chunks.columns is not None
        for entry in found.state_dict_metadata.values()
        if isinstance(entry, TensorStorageMetadata)
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols(protocol: int) -> None:
    saved = metadata()
    saved.planner_data = {"s": {1, 2}, "b": b"\xff\x00", "a": bytearray(b"x"), "c": 1.5j}
    assert_same(read(pickle.dumps(saved, protocol)), pickle.loads(pickle.dumps(saved, protocol)))


def change(**attributes: Any) -> Callable[[Metadata], None]:
    return lambda saved: vars(saved).update(attributes)


def share_properties(saved: Metadata) -> None:
    saved.state_dict_metadata["empty"].properties = saved.state_dict_metadata["model.w"].properties


def share_chunk(saved: Metadata) -> None:
    saved.state_dict_metadata["other"] = tensor([4, 3])
    saved.state_dict_metadata["other"].chunks = [saved.state_dict_metadata["model.w"].chunks[0]]


def share_chunks(saved: Metadata) -> None:
    saved.state_dict_metadata["other"] = tensor([4, 3])
    saved.state_dict_metadata["other"].chunks = saved.state_dict_metadata["model.w"].chunks


def share_location(saved: Metadata) -> None:
    saved.storage_data[MetadataIndex("again")] = saved.storage_data[MetadataIndex("step")]


def contain_itself(saved: Metadata) -> None:
    saved.planner_data = [1]
    saved.planner_data.append(saved.planner_data)


def keep_plans(saved: Metadata) -> None:
    plan = SavePlan([shard_item("w", 0), bytes_item("b")], planner_data={"w": ("w",)})
    saved.all_local_plans = [plan, SavePlan([]), LoadPlan([])]


def old_properties(saved: Metadata) -> None:
    for entry in saved.state_dict_metadata.values():
        if isinstance(entry, TensorStorageMetadata):
            entry.properties = sharded_metadata.TensorProperties(dtype=torch.float16)


UNUSUAL: dict[str, Callable[[Metadata], None]] = {
    "nothing": lambda saved: None,
    "no storage_data": change(storage_data=None),
    "no entries": change(state_dict_metadata={}),
    "nothing saved": change(storage_data={}, state_dict_metadata={}),
    "entries of another kind": change(state_dict_metadata=[1, 2]),
    "storage_data of another kind": change(storage_data={"w": "file"}),
    "more attributes": change(mcore_data={"a": [1, {"b": (None, True)}]}, other=3.5),
    "ordered dict": change(planner_data=collections.OrderedDict(b=1, a=2)),
    "sets": change(planner_data=({1, 2}, frozenset({3}))),
    "bytes": change(planner_data=[b"", b"x" * 300, bytearray(b"y")]),
    "long text": change(planner_data="x" * 100_000),
    "unusual texts": change(planner_data=["\ud800", "\x00", "\n", "ä€😀", ""]),
    "ints": change(planner_data=[-1, 255, 256, 65_536, -(2**31), 2**55, -(2**63), 2**63, -(2**99)]),
    "floats": change(planner_data=[0.0, -0.0, float("inf"), 1e-300, complex(1, -2)]),
    "deep": change(planner_data=[[[[[[[[[[("deep",)]]]]]]]]]]),
    "a path": change(planner_data=Path("/a")),
    "properties shared": share_properties,
    "a chunk shared": share_chunk,
    "chunks shared": share_chunks,
    "a location shared": share_location,
    "transforms": lambda saved: saved.storage_data.update(
        {MetadataIndex("z"): _StorageInfo("p", 0, 1, ["zstd"])}
    ),
    "negative numbers": lambda saved: saved.state_dict_metadata.update(
        {"n": tensor([-1], chunk([-5], [-(2**62)]))}
    ),
    "numbers beyond int64": lambda saved: saved.storage_data.update(
        {MetadataIndex("z", None, 2**70): _StorageInfo("p", 2**80, -1)}
    ),
    "a negative chunk index": lambda saved: saved.storage_data.update(
        {MetadataIndex("z", [1], -1): _StorageInfo("p", 0, 1)}
    ),
    "a chunk of other dims": lambda saved: saved.state_dict_metadata.update(
        {"n": tensor([4], chunk([0, 0], [4, 4]))}
    ),
    "a chunk of lists": lambda saved: saved.state_dict_metadata.update(
        {"n": tensor([4], ChunkStorageMetadata([0], (4,)))}  # type: ignore[arg-type]
    ),
    "a chunk with more attributes": lambda saved: vars(
        saved.state_dict_metadata["model.w"].chunks[1]
    ).update(extra=1),
    "bytes with attributes": lambda saved: vars(saved.state_dict_metadata["step"]).update(a=1),
    "a key that is not a str": lambda saved: saved.state_dict_metadata.update({5: tensor([])}),
    "a name of lone surrogates": lambda saved: saved.state_dict_metadata.update(
        {"\ud800": tensor([])}
    ),
    "an index of lone surrogates": lambda saved: saved.storage_data.update(
        {MetadataIndex("\ud800"): _StorageInfo("\udcff", 0, 1)}
    ),
    "many dims": lambda saved: saved.state_dict_metadata.update(
        {"n": tensor([1] * 64, chunk([0] * 64, [1] * 64))}
    ),
    "plans": keep_plans,
    "old properties": old_properties,
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_content(name: str) -> None:
    saved = metadata()
    UNUSUAL[name](saved)
    check_both_ways(saved)


@pytest.mark.parametrize(
    "share", [share_properties, share_chunk, share_chunks, share_location], ids=lambda f: f.__name__
)
def test_shared_objects_stay_shared(share: Callable[[Metadata], None]) -> None:
    saved = metadata()
    share(saved)
    entries = saved.state_dict_metadata
    for found in (pickle.loads(written(saved)), read(pickle.dumps(saved))):
        if share is share_properties:
            assert entries["empty"].properties is entries["model.w"].properties
            assert (
                found.state_dict_metadata["empty"].properties
                is found.state_dict_metadata["model.w"].properties
            )
        elif share is share_location:
            keys = [MetadataIndex("again"), MetadataIndex("step")]
            assert found.storage_data[keys[0]] is found.storage_data[keys[1]]
        else:
            chunks = found.state_dict_metadata
            assert chunks["other"].chunks[0] is chunks["model.w"].chunks[0]
            assert (share is share_chunks) == (chunks["other"].chunks is chunks["model.w"].chunks)


def test_list_that_contains_itself() -> None:
    saved = metadata()
    contain_itself(saved)
    for found in (pickle.loads(written(saved)), read(pickle.dumps(saved))):
        assert found.planner_data[1] is found.planner_data


def test_names_of_pathlib_on_another_python() -> None:
    pickled = pickle.dumps(metadata(), 2).replace(b"cpathlib\n", b"cpathlib._local\n")
    assert read(pickled).storage_meta.checkpoint_id == PurePosixPath("/a/b")


def test_a_subclass_is_rejected_unless_trusted() -> None:
    saved = metadata()
    saved.state_dict_metadata["unusual"] = OtherBytes()
    assert_same(pickle.loads(written(saved)), saved)
    with pytest.raises(pickle.UnpicklingError, match=r"here/\.metadata names the global .*OtherB"):
        read(written(saved))
    assert_same(read(written(saved), trust=True), saved)


def test_another_root() -> None:
    assert read(pickle.dumps({"a": (1, None)})) == {"a": (1, None)}
    assert read(pickle.dumps(None)) is None


@pytest.mark.parametrize("parallelism", [fsdp(8), fsdp_tp(4, 2)], ids=["fsdp", "fsdp_tp"])
def test_workloads(parallelism: Any) -> None:
    saved = saved_metadata(with_adam(llama(LLAMA3_8B)), parallelism)
    saved.planner_data = {name: tuple(name.split(".")) for name in saved.state_dict_metadata}
    saved.storage_data = {
        MetadataIndex(name, one.offsets, at): _StorageInfo(f"__{at}_0.distcp", 7 * at, 5)
        for name, entry in saved.state_dict_metadata.items()
        for at, one in enumerate(entry.chunks)
    }
    for location in saved.storage_data.values():
        del location.transform_descriptors
    check_both_ways(saved)


def test_the_file_loads_without_shardplan(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(written(metadata()))
    reader = textwrap.dedent(
        """
        import pickle, sys
        sys.modules["shardplan"] = None
        class Restricted(pickle.Unpickler):
            def find_class(self, module, name):
                assert module.split(".")[0] in ("torch", "pathlib"), (module, name)
                return super().find_class(module, name)
        found = Restricted(open(sys.argv[1], "rb")).load()
        assert type(found.storage_data) is dict
        assert type(found.state_dict_metadata["model.w"].chunks) is list
        print(len(found.storage_data))
        """
    )
    found = subprocess.run(
        [sys.executable, "-c", reader, str(tmp_path / ".metadata")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.stdout.strip() == "4", found.stderr


def test_every_dtype_of_torch() -> None:
    dtypes = {str(each): each for each in vars(torch).values() if isinstance(each, torch.dtype)}
    saved = Metadata({name: tensor([0], dtype=dtype) for name, dtype in dtypes.items()})
    stream = io.BytesIO(pickle.dumps(saved))
    assert_same(metadata_file.load(stream, ".metadata", trust=False), saved)
