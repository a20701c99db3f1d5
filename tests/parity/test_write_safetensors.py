"""Safetensors files that are written natively, against upstream's."""

from __future__ import annotations

import importlib
import io
import json
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter
from torch.distributed.checkpoint.filesystem import SerializationFormat
from torch.distributed.tensor import DTensor, Shard

import shardplan
from benchmarks.workloads import world
from parity.stored_boxes import bits
from parity.test_read_data import DTYPES, random_tensor
from parity.test_write_data import Saved
from shardplan.dcp import fallbacks
from shardplan.dcp.native import native
from shardplan.dcp.storage import safetensors_writing

pytest.importorskip("safetensors", reason="the format needs its library")

StateDict = dict[str, Any]
REJECTED = (
    "write safetensors: the library rejects a tensor, or it is not a plain one on CPU or CUDA"
)


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    fallbacks.clear()
    yield
    fallbacks.clear()


def parsed(file: bytes) -> tuple[int, str, dict[str, str], bytes]:
    """Returns a file's header without its metadata, the metadata, and the data."""
    size = struct.unpack("<Q", file[:8])[0]
    header = file[8 : 8 + size].decode()
    metadata: dict[str, str] = {}
    if header.startswith('{"__metadata__":'):
        metadata, end = json.JSONDecoder().raw_decode(header, header.index("{", 1))
        header = header[end:]
    return size, header, metadata, file[8 + size :]


def outcome(saved: Saved) -> Any:
    if saved.error is not None:
        return type(saved.error), str(saved.error)
    results = {result.index: result for result in saved.results}
    return {name: parsed(file) for name, file in saved.files.items()}, results


def check(path: Path, make: Callable[[], StateDict], **options: Any) -> Saved:
    saves = []
    for name, writer, planner in (
        ("ours", shardplan.FileSystemWriter, shardplan.DefaultSavePlanner()),
        ("upstream", dcp.FileSystemWriter, dcp.DefaultSavePlanner()),
    ):
        (path / name).mkdir()
        format = {"serialization_format": SerializationFormat.SAFETENSORS, **options}
        saves.append(Saved(path / name, writer, planner, make(), format))
    assert outcome(saves[0]) == outcome(saves[1])
    return saves[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    def make() -> StateDict:
        shapes: list[tuple[int, ...]] = [(), (7,), (0, 3), (5, 9), (300, 500), (2, 1, 3)]
        return {f"t{at}": random_tensor(shape, dtype) for at, shape in enumerate(shapes)}

    check(tmp_path, make)
    written = str(dtype).removeprefix("torch.") in native.safetensors_dtypes()
    assert shardplan.fallbacks() == ({} if written else {REJECTED: 1})


def many() -> StateDict:
    dtypes = (torch.float32, torch.int64, torch.bool, torch.bfloat16, torch.uint8)
    return {
        f"layer.{at * 7919 % 1000}.weight": random_tensor((at % 7, 3), dtypes[at % 5], at)
        for at in range(200)
    }


@pytest.mark.parametrize("options", [{}, {"thread_count": 3}, {"single_file_per_rank": False}])
def test_many_tensors_and_files(options: dict[str, Any], tmp_path: Path) -> None:
    check(tmp_path, many, **options)
    assert not shardplan.fallbacks()


def base() -> torch.Tensor:
    return torch.arange(360, dtype=torch.float32).view(12, 30)


LAYOUTS: dict[str, Callable[[], torch.Tensor]] = {
    "rows": lambda: base()[3:7],
    "columns": lambda: base()[:, 4:9],
    "every other": lambda: base()[::2],
    "transposed rows": lambda: base()[3:7].t(),
    "transposed": lambda: base().t(),
    "expanded": lambda: torch.ones(1, 3).expand(5, 3),
    "one expanded": lambda: torch.ones(4)[2:3].expand(4),
    "parameter": lambda: torch.nn.Parameter(base()),
    "requires grad": lambda: base().requires_grad_(),
    "one": lambda: base()[2:3, 5:6],
    "offset": lambda: base().view(-1)[7:],
    "conjugate": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "channels last": lambda: torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "strided of size one": lambda: torch.ones(3).as_strided((1, 3), (7, 1)),
    "empty": lambda: base()[3:3],
    "empty, transposed": lambda: base()[3:3].t(),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, tmp_path: Path) -> None:
    ours = check(tmp_path, lambda: {"a": torch.ones(2), "x": LAYOUTS[name]()})
    unwritten = ("transposed rows", "transposed", "expanded", "one expanded", "channels last")
    if ours.error is None:
        assert name in unwritten or not shardplan.fallbacks() or name == "conjugate"
    else:
        assert shardplan.fallbacks() == {REJECTED: 1}


def tied() -> StateDict:
    one = base()
    return {"x": one, "y": one}


def parts_of_one_storage() -> StateDict:
    whole = base()
    return {"x": whole[:6], "y": whole[6:], "z": whole[:6]}


@pytest.mark.parametrize("make", [tied, parts_of_one_storage])
def test_tensors_that_share_memory(make: Callable[[], StateDict], tmp_path: Path) -> None:
    ours = check(tmp_path, make)
    assert (ours.error is not None) == (make is tied)


NAMES = ["", "a b", 'quoted "name"', "back\\slash", "\n\t\r\b\f\x01\x7f", "ä€\U0001f600", "z" * 300]


def test_names(tmp_path: Path) -> None:
    check(tmp_path, lambda: {name: torch.ones(at + 1) for at, name in enumerate(NAMES)})
    assert not shardplan.fallbacks()


def test_a_tensor_named_as_the_metadata(tmp_path: Path) -> None:
    check(tmp_path, lambda: {"__metadata__": torch.ones(2)})


def test_byte_entries_are_left_to_upstream(tmp_path: Path) -> None:
    saves = []
    for name, writer in (("ours", shardplan.FileSystemWriter), ("upstream", dcp.FileSystemWriter)):
        (tmp_path / name).mkdir()
        options = {"serialization_format": SerializationFormat.SAFETENSORS}
        planner = dcp.DefaultSavePlanner()
        saves.append(Saved(tmp_path / name, writer, planner, {"x": torch.ones(2), "n": 5}, options))
    assert [save.error for save in saves] == [None, None]
    assert {r.index: r for r in saves[0].results} == {r.index: r for r in saves[1].results}
    assert shardplan.fallbacks() == {"write safetensors: the plan has byte entries": 1}


def test_hooks_of_a_planner_are_called(tmp_path: Path) -> None:
    class Doubles(shardplan.DefaultSavePlanner):
        def transform_object(self, write_item: Any, object: Any) -> Any:
            return super().transform_object(write_item, object) * 2

    options = {"serialization_format": SerializationFormat.SAFETENSORS}
    saved = Saved(tmp_path, shardplan.FileSystemWriter, Doubles(), {"x": torch.ones(2)}, options)
    assert saved.error is None
    assert parsed(saved.files["__0_0.distcp"])[3] == struct.pack("<2f", 2, 2)
    assert list(shardplan.fallbacks()) == [
        "write safetensors: the planner overrides resolve_data or what it calls"
    ]


def test_a_library_of_another_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    real = safetensors.torch.save
    monkeypatch.setattr(safetensors.torch, "save", lambda *a, **k: real(*a, **k) + b" ")
    safetensors_writing._library_is_known.cache_clear()
    try:
        options = {"serialization_format": SerializationFormat.SAFETENSORS}
        planner = dcp.DefaultSavePlanner()
        saved = Saved(tmp_path, shardplan.FileSystemWriter, planner, many(), options)
    finally:
        safetensors_writing._library_is_known.cache_clear()
    assert saved.files["__0_0.distcp"].endswith(b" ")
    assert list(shardplan.fallbacks()) == [
        "write safetensors: the installed safetensors writes another format"
    ]


def test_saved_offsets_are_what_json_writes() -> None:
    with world(1, 4):
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (4,))
        state_dict: StateDict = {
            name: DTensor.from_local(torch.ones(2, 3), mesh, [Shard(at % 2)], run_check=False)
            for at, name in enumerate(NAMES)
        }
        planner = dcp.DefaultSavePlanner()
        planner.set_up_planner(state_dict, None, False)
        items = planner.create_local_plan().items
    writer = native.TensorWriter(items, threads=1, memory=0, progress=None)
    expected = {
        item.index.fqn: {"saved_offsets": item.tensor_data.chunk.offsets}  # type: ignore[union-attr]
        for item in items
    }
    assert writer.saved_offsets(list(range(len(items)))) == json.dumps(expected)


@contextmanager
def without_the_library() -> Iterator[None]:
    """Makes a call of the library's function an error."""
    safetensors_writing._library_is_known()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("safetensors.torch"), "save", None)
        yield


@pytest.mark.parametrize("distributed", [False, True])
def test_hugging_face_writers(distributed: bool, tmp_path: Path) -> None:
    """With two files, by the mapping of a caller; loaded by both readers."""
    state_dict = many()
    mapping = {name: 1 + at % 2 for at, name in enumerate(state_dict)}
    saved: dict[str, dict[str, Any]] = {}
    for name, writer in (
        ("ours", shardplan.HuggingFaceStorageWriter),
        ("upstream", dcp.HuggingFaceStorageWriter),
    ):
        used = writer(
            str(tmp_path / name), fqn_to_index_mapping=mapping, save_distributed=distributed
        )
        with without_the_library() if name == "ours" else nullcontext():
            dcp.save(dict(state_dict), storage_writer=used, no_dist=True)
        saved[name] = {
            file.name: parsed(file.read_bytes())
            if file.suffix == ".safetensors"
            else json.loads(file.read_text())
            for file in (tmp_path / name).iterdir()
        }
    assert saved["ours"] == saved["upstream"]
    assert len(saved["ours"]) == (2 if distributed else 3)
    assert not shardplan.fallbacks()
    for reader in (shardplan.HuggingFaceStorageReader, dcp.HuggingFaceStorageReader):
        loaded = {name: torch.zeros_like(tensor) for name, tensor in state_dict.items()}
        dcp.load(loaded, storage_reader=reader(str(tmp_path / "ours")), no_dist=True)
        for name, tensor in state_dict.items():
            assert bits(loaded[name]) == bits(tensor)


@pytest.mark.parametrize("rank", range(4))
def test_shards_of_a_rank(rank: int, tmp_path: Path) -> None:
    def make() -> StateDict:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (4,))
        return {
            name: DTensor.from_local(
                random_tensor((5, 3), torch.float32, at), mesh, [Shard(at % 2)], run_check=False
            )
            for at, name in enumerate(NAMES)
        }

    saved: dict[str, Any] = {}
    with world(rank, 4):
        for name, writer in (
            ("ours", shardplan.HuggingFaceStorageWriter),
            ("upstream", dcp.HuggingFaceStorageWriter),
        ):
            used = writer(str(tmp_path / name), save_distributed=True)
            planner = dcp.DefaultSavePlanner()
            planner.set_up_planner(make(), None, False)
            used.set_up_storage_writer(True)
            plan = used.prepare_local_plan(planner.create_local_plan())
            plans = used.prepare_global_plan([plan] * 4)
            with without_the_library() if name == "ours" else nullcontext():
                results = used.write_data(plans[rank], planner).wait()
            files = {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
            saved[name] = (
                {result.index: result for result in results},
                {file: parsed(content) for file, content in files.items()},
            )
    assert saved["ours"] == saved["upstream"]
    assert not shardplan.fallbacks()


def test_registered_writers(tmp_path: Path) -> None:
    shardplan.register()
    try:
        with without_the_library():
            writer = dcp.HuggingFaceStorageWriter(str(tmp_path))
            dcp.save(many(), storage_writer=writer, no_dist=True)
    finally:
        shardplan.unregister()
    assert not shardplan.fallbacks()


def test_streams_and_their_failures() -> None:
    options = {"serialization_format": SerializationFormat.SAFETENSORS, "sync_files": False}
    writers = (
        shardplan.FsspecWriter("memory://ours", **options),
        FsspecWriter("memory://upstream", **options),
    )
    files = []
    for name, writer in zip(("ours", "upstream"), writers, strict=True):
        planner = dcp.DefaultSavePlanner()
        planner.set_up_planner(many(), None, True)
        writer.set_up_storage_writer(True)
        plan = writer.prepare_local_plan(planner.create_local_plan())
        plans, _ = planner.create_global_plan([plan])
        writer.write_data(planner.finish_plan(writer.prepare_global_plan(plans)[0]), planner)
        files.append(parsed(fsspec.filesystem("memory").cat_file(f"/{name}/__0_0.distcp")))
    assert files[0] == files[1]
    assert not shardplan.fallbacks()

    tensors = {"first": torch.ones(9, dtype=torch.int64), "x": torch.ones(3 << 20)}
    planner = dcp.DefaultSavePlanner()
    planner.set_up_planner(tensors, None, True)
    native_writer = native.TensorWriter(
        planner.create_local_plan().items, threads=1, memory=0, progress=None
    )
    stream = io.BytesIO()

    def write(data: memoryview) -> None:
        if stream.tell() > 1 << 20:
            raise OSError("enough")
        stream.write(data)

    done = native_writer.write_safetensors(write, "", [0, 1], [], tensors, None)
    assert done is not None
    (index, error) = done[1]  # type: ignore[misc]
    assert (index, str(error)) == (1, "enough")


def test_the_python_heap_holds_no_copy_of_a_file(tmp_path: Path) -> None:
    peaks = []
    for name, writer in (
        ("ours", shardplan.HuggingFaceStorageWriter),
        ("upstream", dcp.HuggingFaceStorageWriter),
    ):
        for elements in (1, 1 << 20):
            state_dict = {f"x{at}": torch.ones(elements) for at in range(16)}
            used = writer(str(tmp_path / name))
            tracemalloc.start()
            try:
                dcp.save(state_dict, storage_writer=used, no_dist=True)
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1 << 20
    assert peaks[3] - peaks[2] > 32 << 20
