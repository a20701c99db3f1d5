"""Tensors that are written natively to streams, against upstream's ``write_data``."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter

import shardplan
from benchmarks.object_store import ObjectStore, object_store
from contract.interrupts import interrupted
from parity.test_write_data import NOT_PLAIN, StateDict, mixed
from shardplan.dcp import fallbacks


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    fallbacks.clear()
    yield
    fallbacks.clear()


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store(latency=0.0) as running:
        fsspec.filesystem("s3", **running.options).mkdir("bucket")
        yield running


Place = tuple[str, dict[str, Any]]


@pytest.fixture(params=["file", "memory", "s3", "simplecache"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Place]:
    """Returns the URL of a directory, and the arguments of its file system."""
    kind = request.param
    unique = uuid.uuid4().hex

    def url_of(name: str) -> Place:
        if kind == "file":
            return f"file://{tmp_path}/{name}", {}
        if kind == "s3":
            return f"s3://bucket/{unique}/{name}", request.getfixturevalue("store").options
        prefix = "simplecache::" if kind == "simplecache" else ""
        return f"{prefix}memory://{unique}/{name}", {}

    return url_of


def outcome_of(writer: dcp.FileSystemWriter, planner: Any, state_dict: StateDict) -> Any:
    """Returns the write results of a save."""
    planner.set_up_planner(state_dict, None, True)
    writer.set_up_storage_writer(True)
    plan = writer.prepare_local_plan(planner.create_local_plan())
    plans, _ = planner.create_global_plan([plan])
    plan = planner.finish_plan(writer.prepare_global_plan(plans)[0])
    return {result.index: result for result in writer.write_data(plan, planner).wait()}


def files_of(place: Place) -> dict[str, bytes]:
    fs, path = fsspec.url_to_fs(place[0], **place[1])
    fs.invalidate_cache()
    return {file.rsplit("/", 1)[1]: fs.cat_file(file) for file in fs.ls(path, detail=False)}


def large() -> StateDict:
    """Tensors larger than a block of s3fs, and such as have to be gathered."""
    return {
        "large": torch.arange(16 << 20, dtype=torch.float32),
        "strided": torch.arange(1 << 20).view(1024, 1024)[:, ::3].t(),
        "small": torch.ones(3),
    }


class Subclass(torch.Tensor):
    pass


def unusual() -> StateDict:
    """Tensors that native code leaves to upstream, among others."""
    return {
        "a": torch.ones(5),
        "subclass": torch.ones(4).as_subclass(Subclass),
        "b": torch.ones(50_000),
        "quantized": torch.quantize_per_tensor(torch.ones(4), 0.5, 0, torch.quint8),
        "c": torch.ones(7),
    }


@pytest.mark.parametrize("make", [mixed, large, unusual])
@pytest.mark.parametrize("options", [{}, {"thread_count": 3}, {"single_file_per_rank": False}])
def test_files_equal_upstreams(
    make: Callable[[], StateDict], options: dict[str, Any], place: Callable[[str], Place]
) -> None:
    outcomes = []
    for name, writer, planner in (
        ("ours", shardplan.FsspecWriter, shardplan.DefaultSavePlanner()),
        ("upstream", FsspecWriter, dcp.DefaultSavePlanner()),
    ):
        url, arguments = place(name)
        used = writer(url, sync_files=False, **options, **arguments)
        results = outcome_of(used, planner, make())
        outcomes.append((results, files_of(place(name))))
    assert outcomes[0] == outcomes[1]
    assert shardplan.fallbacks().get(NOT_PLAIN, 0) == (2 if make is unusual else 0)
    assert make is unusual or not shardplan.fallbacks()


def test_registered_saves_are_loaded_by_upstream(place: Callable[[str], Place]) -> None:
    url, arguments = place("registered")
    if url.startswith("simplecache"):
        pytest.skip("fsspec cannot rename a file of simplecache, which a save does")
    state_dict = mixed()
    shardplan.register()
    try:
        writer = FsspecWriter(url, sync_files=False, **arguments)
        dcp.save(state_dict, storage_writer=writer, no_dist=True)
    finally:
        shardplan.unregister()
    assert not shardplan.fallbacks()
    loaded = {
        name: torch.zeros_like(value) if isinstance(value, torch.Tensor) else None
        for name, value in state_dict.items()
    }
    dcp.load(loaded, storage_reader=FsspecReader(url, **arguments), no_dist=True)
    for name, value in state_dict.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(loaded[name], value)
        else:
            assert loaded[name] == value


class Streams(filesystem.FileSystem):
    """A file system whose streams are a caller's own."""

    def __init__(self, wrap: Callable[[io.BufferedWriter], Any]) -> None:
        super().__init__()
        self._wrap = wrap

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
        with super().create_stream(path, mode) as stream:
            yield self._wrap(stream) if mode == "wb" else stream


class Stream:
    """A stream that counts, and does with ``write`` what a test says."""

    def __init__(self, file: Any, write: Callable[[Any, Any], object] | None = None) -> None:
        self._file = file
        self._write = write
        self.sizes: list[int] = []

    def write(self, data: Any) -> object:
        self.sizes.append(len(data))
        return self._file.write(data) if self._write is None else self._write(self._file, data)

    def tell(self) -> int:
        position: int = self._file.tell()
        return position

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def writing(path: Path, wrap: Callable[[Any], Any], state_dict: StateDict) -> Any:
    """Saves through streams of a caller's own, and returns the write results."""
    path.mkdir()
    writer = shardplan.FileSystemWriter(path, sync_files=False)
    writer.fs = Streams(wrap)
    return outcome_of(writer, dcp.DefaultSavePlanner(), state_dict)


def expected(path: Path, state_dict: StateDict) -> bytes:
    path.mkdir()
    writer = dcp.FileSystemWriter(path, sync_files=False)
    outcome_of(writer, dcp.DefaultSavePlanner(), state_dict)
    return (path / "__0_0.distcp").read_bytes()


def test_a_stream_gets_large_blocks(tmp_path: Path) -> None:
    state_dict = {f"x{at}": torch.full((64,), float(at)) for at in range(5000)}
    streams: list[Stream] = []

    def wrap(file: Any) -> Stream:
        streams.append(Stream(file))
        return streams[-1]

    writing(tmp_path / "ours", wrap, state_dict)
    written = (tmp_path / "ours" / "__0_0.distcp").read_bytes()
    assert written == expected(tmp_path / "upstream", state_dict)
    assert len(streams[0].sizes) < 20  # ten megabytes
    assert not shardplan.fallbacks()


def test_what_write_returns_is_ignored(tmp_path: Path) -> None:
    """As torch.save does: a stream that compresses may return another number."""

    def write(file: Any, data: Any) -> object:
        file.write(data)
        return "anything"

    writing(tmp_path / "ours", lambda file: Stream(file, write), mixed())
    written = (tmp_path / "ours" / "__0_0.distcp").read_bytes()
    assert written == expected(tmp_path / "upstream", mixed())


def test_a_stream_that_writes_less_than_it_gets(tmp_path: Path) -> None:
    """Upstream writes a checkpoint that cannot be loaded."""
    with pytest.raises(OSError, match=r"__0_0.distcp: the stream is at byte \d+, not \d+, after"):
        writing(
            tmp_path / "ours",
            lambda file: Stream(file, lambda file, data: file.write(data[:100])),
            {"x": torch.ones(900)},
        )


def test_a_stream_that_keeps_what_it_gets(tmp_path: Path) -> None:
    kept: list[Any] = []

    def keep(file: Any, data: Any) -> object:
        kept.append(data)
        return file.write(data)

    writing(tmp_path / "view", lambda file: Stream(file, keep), {"x": torch.ones(900)})
    with pytest.raises(ValueError, match="released memoryview"):
        bytes(kept[0])


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_an_exception_of_a_stream(size: int, tmp_path: Path) -> None:
    class Quota(OSError):
        pass

    cause = Quota(28, "No space left on device")

    def write(file: Any, data: Any) -> object:
        raise cause

    with pytest.raises(Quota) as raised:
        writing(tmp_path / "ours", lambda file: Stream(file, write), {"x": torch.ones(size)})
    assert raised.value is cause
    assert raised.value.filename == str(tmp_path / "ours" / "__0_0.distcp")
    if hasattr(cause, "__notes__"):
        assert "while writing 'x' to " in cause.__notes__[0]
    assert raised.traceback[-1].name == "write"


def test_an_interrupt_ends_the_writes_of_a_stream(tmp_path: Path) -> None:
    one = torch.ones(1 << 20)
    state_dict = {f"x{at}": one for at in range(20_000)}
    with interrupted(after=0.3, within=3):
        writing(tmp_path / "ours", lambda file: Stream(file, lambda *_: None), state_dict)


def test_a_file_that_is_opened_to_append(tmp_path: Path) -> None:
    """What is written at an offset of such a file lands at its end."""

    class Appends(filesystem.FileSystem):
        @contextmanager
        def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
            with super().create_stream(path, "ab" if mode == "wb" else mode) as stream:
                yield stream

    writer = shardplan.FileSystemWriter(tmp_path / "ours", sync_files=False)
    (tmp_path / "ours").mkdir()
    writer.fs = Appends()
    outcome_of(writer, dcp.DefaultSavePlanner(), mixed())
    written = (tmp_path / "ours" / "__0_0.distcp").read_bytes()
    assert written == expected(tmp_path / "upstream", mixed())
