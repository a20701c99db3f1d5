"""shardplan's readers and writers in location of upstream's."""

from __future__ import annotations

import inspect
import pickle
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save, torch_save_to_dcp
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

import shardplan
from parity.comparison import assert_same
from parity.unreadable_metadata import words_of_a_load
from pickled import globals_of
from shardplan.dcp.lazy.items import LazyList
from shardplan.dcp.lazy.storage_data import StorageData
from shardplan.dcp.storage.tensor_data import read_safetensors
from shardplan.dcp.upstream import versions

TWINS = [
    (shardplan.FileSystemWriter, dcp.FileSystemWriter),
    (shardplan.FileSystemReader, dcp.FileSystemReader),
    (shardplan.FsspecWriter, FsspecWriter),
    (shardplan.FsspecReader, FsspecReader),
    (shardplan.HuggingFaceStorageReader, dcp.HuggingFaceStorageReader),
    (shardplan.HuggingFaceStorageWriter, dcp.HuggingFaceStorageWriter),
]

OWN_OPTIONS = {
    shardplan.FileSystemWriter: ("write_threads", "progress", "atomic"),
    shardplan.FileSystemReader: ("trust", "thread_count", "verify", "progress"),
    shardplan.FsspecReader: ("trust", "thread_count", "verify", "progress"),
    shardplan.FsspecWriter: ("progress",),
    shardplan.HuggingFaceStorageReader: ("progress",),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def state_dict() -> dict[str, Any]:
    return {
        "model": {"w": torch.arange(12.0).reshape(3, 4), "b": torch.ones(()), "e": torch.ones(0)},
        "steps": [3, {"x": "y"}],
    }


def blank() -> dict[str, Any]:
    return {
        "model": {"w": torch.zeros(3, 4), "b": torch.zeros(()), "e": torch.zeros(0)},
        "steps": [0, {"x": ""}],
    }


def assert_loaded(found: dict[str, Any]) -> None:
    assert torch.equal(found["model"]["w"], state_dict()["model"]["w"])
    assert found["model"]["b"] == 1
    assert found["steps"] == [3, {"x": "y"}]


def comparable(metadata: Metadata) -> Metadata:
    """Removes ids and the thread-dependent order, which differ between any two saves."""
    metadata.storage_meta = None
    if metadata.storage_data is not None:
        locations = metadata.storage_data.items()
        metadata.storage_data = dict(sorted(locations, key=lambda location: repr(location[0])))
    return metadata


def assert_same_files(ours: Path, upstream: Path) -> None:
    names = sorted(path.name for path in upstream.iterdir())
    assert sorted(path.name for path in ours.iterdir()) == names
    for name in names:
        mine, theirs = ((folder / name).read_bytes() for folder in (ours, upstream))
        if name.endswith(".metadata"):
            assert_same(comparable(pickle.loads(mine)), comparable(pickle.loads(theirs)))
            assert globals_of(mine) == globals_of(theirs)
        else:
            assert mine == theirs


@pytest.mark.parametrize(("ours", "upstream"), TWINS)
def test_signatures(ours: Any, upstream: Any) -> None:
    assert issubclass(ours, upstream)
    mine = dict(inspect.signature(ours).parameters)
    for name in OWN_OPTIONS.get(ours, ()):
        assert mine.pop(name).kind is inspect.Parameter.KEYWORD_ONLY
    assert list(mine) == list(inspect.signature(upstream).parameters)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"single_file_per_rank": False},
    {"thread_count": 2},
    {"sync_files": False},
    {"cache_staged_state_dict": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("planner", [dcp.DefaultSavePlanner, shardplan.DefaultSavePlanner])
def test_same_files(options: dict[str, Any], planner: Any, tmp_path: Path) -> None:
    for folder, writer in (
        ("upstream", dcp.FileSystemWriter),
        ("ours", shardplan.FileSystemWriter),
    ):
        used = dcp.DefaultSavePlanner if folder == "upstream" else planner
        dcp.save(
            state_dict(),
            storage_writer=writer(tmp_path / folder, **options),
            planner=used(),
            no_dist=True,
        )
    assert_same_files(tmp_path / "ours", tmp_path / "upstream")
    for reader in (dcp.FileSystemReader, shardplan.FileSystemReader):
        for folder in ("upstream", "ours"):
            found = blank()
            dcp.load(found, storage_reader=reader(tmp_path / folder), no_dist=True)
            assert_loaded(found)


def save(writer: Any, planner: Any) -> Metadata:
    metadata: Metadata = dcp.save(
        state_dict(), storage_writer=writer, planner=planner, no_dist=True
    )
    return metadata


def chunk_lists(metadata: Metadata) -> set[type]:
    entries = metadata.state_dict_metadata.values()
    return {type(entry.chunks) for entry in entries if isinstance(entry, TensorStorageMetadata)}


def returned(kind: type) -> type:
    """Returns the type of returned ``storage_data`` or ``storage_meta``, if finish sets it."""
    return kind if versions.finish_changes_its_argument() else type(None)


def test_returned_metadata(tmp_path: Path) -> None:
    """Large parts are lazy, but only for a shardplan writer."""
    ours = save(shardplan.FileSystemWriter(tmp_path / "1"), shardplan.DefaultSavePlanner())
    assert type(ours.storage_data) is returned(StorageData)
    if isinstance(ours.storage_data, StorageData):
        assert ours.storage_data.columns() is not None
    assert chunk_lists(ours) == {LazyList}
    exact = save(dcp.FileSystemWriter(tmp_path / "2"), shardplan.DefaultSavePlanner())
    assert type(exact.storage_data) is returned(dict)
    assert chunk_lists(exact) == {list}
    upstream = save(dcp.FileSystemWriter(tmp_path / "3"), dcp.DefaultSavePlanner())
    mixed = save(shardplan.FileSystemWriter(tmp_path / "4"), dcp.DefaultSavePlanner())
    assert chunk_lists(mixed) == {list}
    for found in (ours, exact, mixed):
        assert type(found.storage_meta) is returned(StorageMeta)
        if found.storage_meta is not None:
            assert list(vars(found.storage_meta)) == list(vars(StorageMeta()))
        assert comparable(found) == comparable(upstream)


def test_overwriting(tmp_path: Path) -> None:
    messages = []
    for writer in (dcp.FileSystemWriter, shardplan.FileSystemWriter):
        folder = tmp_path / writer.__module__
        save(writer(folder), dcp.DefaultSavePlanner())
        with pytest.warns(UserWarning, match="Detected an existing checkpoint"):
            save(writer(folder), dcp.DefaultSavePlanner())
        with pytest.raises(CheckpointException) as found:
            save(writer(folder, overwrite=False), dcp.DefaultSavePlanner())
        messages.append(str(found.value.failures[0][0]))
    assert messages[0] == messages[1]


def test_subclass_with_methods_of_its_own(tmp_path: Path) -> None:
    """A subclass's overrides are called, with usable lists."""
    seen: dict[str, Any] = {}

    class Writer(shardplan.FileSystemWriter):
        def write_data(self, plan: Any, planner: Any) -> Any:
            future = super().write_data(plan, planner)
            seen["results"] = [result.index.fqn for result in future.value()]
            return future

        def finish(self, metadata: Metadata, results: Any) -> None:
            seen["finished"] = [len(of_rank) for of_rank in results]
            metadata.planner_data["added"] = ("added",)
            super().finish(metadata, results)

    save(Writer(tmp_path), shardplan.DefaultSavePlanner())
    assert sorted(seen["results"]) == ["model.b", "model.e", "model.w", "steps.0", "steps.1.x"]
    assert seen["finished"] == [5]
    found = pickle.loads((tmp_path / ".metadata").read_bytes())
    assert found.planner_data["added"] == ("added",)


def test_a_writer_that_pickles_metadata_itself(tmp_path: Path) -> None:
    """It delegates ``storage_meta`` to shardplan's writer, and gets lazy lists."""

    class Writer(shardplan.FileSystemWriter):
        def finish(self, metadata: Metadata, results: Any) -> None:
            metadata.storage_meta = self.storage_meta()
            with self.fs.create_stream(self.path / ".metadata", "wb") as stream:
                pickle.dump(metadata, stream)

    save(Writer(tmp_path), shardplan.DefaultSavePlanner())
    pickled = (tmp_path / ".metadata").read_bytes()
    assert not any("shardplan" in name for name in globals_of(pickled))
    assert chunk_lists(pickle.loads(pickled)) == {list}


@pytest.mark.parametrize("writer", ["unknown", "of a caller"])
def test_chunk_lists_of_a_caller_that_has_its_own_save(implementation: Any, writer: str) -> None:
    """Without a ``storage_meta`` they stay lazy; ``save`` passes None for a caller's writer."""
    planner = implementation.DefaultSavePlanner()
    given = {} if writer == "unknown" else {"storage_meta": None}
    planner.set_up_planner(state_dict(), **given, is_coordinator=True)
    plans, metadata = planner.create_global_plan([planner.create_local_plan()])
    planner.finish_plan(plans[0])
    is_lazy = writer == "unknown" and implementation.name != "upstream"
    assert chunk_lists(metadata) == {LazyList if is_lazy else list}
    assert chunk_lists(pickle.loads(pickle.dumps(metadata))) == {list}


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_fsspec(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}://{tmp_path}/checkpoint"
    save(shardplan.FsspecWriter(url), shardplan.DefaultSavePlanner())
    # This save overwrites the first one.
    save(shardplan.FsspecWriter(url), shardplan.DefaultSavePlanner())
    for reader in (FsspecReader(url), shardplan.FsspecReader(url), shardplan.FsspecReader(url)):
        found = blank()
        dcp.load(found, storage_reader=reader, no_dist=True)
        assert_loaded(found)
    with fsspec.open(f"{url}/.metadata", "rb") as stream:
        assert not any("shardplan" in name for name in globals_of(stream.read()))
    with fsspec.open(f"{url}/.metadata", "wb") as stream:
        stream.write(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(pickle.UnpicklingError, match=r"os\.system"):
        shardplan.FsspecReader(url).read_metadata()
    assert shardplan.FsspecReader(url, trust=True).trust


def test_registered_saves_and_loads_use_shardplan(tmp_path: Path) -> None:
    url = f"memory://{tmp_path}/checkpoint"
    for location in (tmp_path / "a", str(tmp_path / "b"), url):
        with shardplan.registered():
            metadata = dcp.save(state_dict(), checkpoint_id=location, no_dist=True)
            assert type(metadata.storage_data) is returned(StorageData)
            assert chunk_lists(metadata) == {LazyList}
            found = blank()
            dcp.load(found, checkpoint_id=location, no_dist=True)
            assert_loaded(found)
        found = blank()
        dcp.load(found, checkpoint_id=location, no_dist=True)
        assert_loaded(found)
    again = dcp.save(state_dict(), checkpoint_id=tmp_path / "c", no_dist=True)
    assert type(again.storage_data) is returned(dict)
    assert chunk_lists(again) == {list}


class Unusual:
    """An object of a class that metadata files do not contain."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unusual)


def test_trust_by_registration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(dcp.FileSystemWriter(tmp_path), dcp.DefaultSavePlanner())
    metadata = pickle.loads((tmp_path / ".metadata").read_bytes())
    metadata.unusual = Unusual()
    (tmp_path / ".metadata").write_bytes(pickle.dumps(metadata))
    reason = "test_storage_classes.Unusual"
    with (
        shardplan.registered(),
        pytest.raises(CheckpointException, match=re.escape(words_of_a_load(reason))),
    ):
        dcp.load(blank(), checkpoint_id=tmp_path, no_dist=True)
    assert reason in caplog.text
    with shardplan.registered(trust=True):
        found = blank()
        dcp.load(found, checkpoint_id=tmp_path, no_dist=True)
        assert_loaded(found)


def test_hugging_face_storage(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="the storage of Hugging Face needs safetensors")
    with shardplan.registered():
        dcp.save(
            state_dict()["model"],
            storage_writer=dcp.HuggingFaceStorageWriter(str(tmp_path)),
            no_dist=True,
        )
        found = blank()["model"]
        dcp.load(found, storage_reader=dcp.HuggingFaceStorageReader(str(tmp_path)), no_dist=True)
        assert dcp.HuggingFaceStorageReader.read_data is read_safetensors
    assert torch.equal(found["w"], state_dict()["model"]["w"])
    assert dcp.HuggingFaceStorageReader.read_data is not read_safetensors


def test_conversions(tmp_path: Path) -> None:
    """``format_utils`` creates readers itself, and its planners are replaced."""
    save(shardplan.FileSystemWriter(tmp_path / "dcp"), shardplan.DefaultSavePlanner())
    with shardplan.registered():
        dcp_to_torch_save(tmp_path / "dcp", tmp_path / "torch.pt")
        torch_save_to_dcp(tmp_path / "torch.pt", tmp_path / "again")
    assert torch.equal(torch.load(tmp_path / "torch.pt")["model"]["w"], state_dict()["model"]["w"])
    found = blank()
    dcp.load(found, storage_reader=shardplan.FileSystemReader(tmp_path / "again"), no_dist=True)
    assert_loaded(found)
