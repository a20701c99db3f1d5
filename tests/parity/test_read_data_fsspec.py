"""Tensors that are read natively from fsspec file systems, against upstream's ``read_data``."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
import torch.distributed.checkpoint as dcp
from fsspec.implementations.local import LocalFileSystem
from torch.distributed.checkpoint import DefaultLoadPlanner
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter

import shardplan
from benchmarks.object_store import ObjectStore, object_store
from parity.stored_boxes import StoredBoxes, bits, item_of, read, saved
from parity.test_read_data import random_tensor
from shardplan.dcp import fallbacks

FILE = "__0_0.distcp"


class SlowToOpen(LocalFileSystem):
    """A file system that fsspec calls synchronously. Remembers the threads that call it."""

    protocol = "slowtoopen"
    threads: set[int] = set()  # noqa: RUF012

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> Any:
        self.threads.add(threading.get_ident())
        return super().cat_file(path, start, end, **kwargs)


fsspec.register_implementation("slowtoopen", SlowToOpen, clobber=True)


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store(latency=0.0) as running:
        fsspec.filesystem("s3", **running.options).mkdir("bucket")
        yield running


@pytest.fixture(autouse=True)
def counted() -> Any:
    fallbacks.clear()
    yield
    fallbacks.clear()


Put = Callable[[Path], tuple[str, dict[str, Any]]]
"""Copies a directory to a file system; returns its URL there, and the file system's arguments."""


@pytest.fixture(params=["file", "slowtoopen", "memory", "s3", "simplecache"])
def put(request: pytest.FixtureRequest) -> Put:
    kind = request.param
    options: dict[str, Any] = {}
    if kind == "s3":
        options = request.getfixturevalue("store").options

    def copy(folder: Path) -> tuple[str, dict[str, Any]]:
        if kind in ("file", "slowtoopen"):
            return f"{kind}://{folder}", {}

        place = f"bucket/{folder.name}" if kind == "s3" else f"/{folder.name}"
        fs = fsspec.filesystem("memory" if kind == "simplecache" else kind, **options)
        for file in folder.iterdir():
            fs.pipe_file(f"{place}/{file.name}", file.read_bytes())
        if kind == "simplecache":
            return f"simplecache::memory:/{place}", {}
        return f"{kind}://{place.lstrip('/')}" if kind == "s3" else f"{kind}:/{place}", options

    return copy


@pytest.mark.parametrize("seed", range(6))
def test_random_boxes_of_random_files(seed: int, put: Put, tmp_path: Path) -> None:
    chance = random.Random(seed)
    stored = StoredBoxes(tmp_path)
    items, sizes = [], {}
    for number in range(30):
        name = f"t{number}"
        shape = tuple(chance.randrange(1, chance.choice((6, 900))) for _ in range(2))
        tensor = random_tensor(shape, torch.float32, seed)
        index = stored.add(name, saved(tensor), (0, 0), file=f"__{chance.randrange(3)}.distcp")
        offsets = [chance.randrange(size) for size in shape]
        sizes[name] = [chance.randrange(n - at + 1) for n, at in zip(shape, offsets, strict=True)]
        items.append(item_of(index, sizes[name], offsets))
    chance.shuffle(items)
    url, options = put(tmp_path)
    outcome = []
    for reader in (
        shardplan.FsspecReader(url, thread_count=chance.choice((None, 1, 7)), **options),
        FsspecReader(url, **options),
    ):
        targets = {name: torch.zeros(size) for name, size in sizes.items()}
        read(reader, stored, items, targets)
        outcome.append({name: bits(tensor) for name, tensor in targets.items()})
    assert outcome[0] == outcome[1]
    assert not shardplan.fallbacks()


def test_a_tensor_larger_than_a_request(put: Put, tmp_path: Path) -> None:
    wanted = random_tensor((5, 1 << 20), torch.float32)
    stored = StoredBoxes(tmp_path)
    items = [
        item_of(stored.add("x", saved(wanted), (0, 0)), (5, 1 << 20)),
        item_of(stored.add("y", saved(wanted), (0, 0)), (5, 3), (0, 7)),
    ]
    url, options = put(tmp_path)
    targets = {"x": torch.zeros(5, 1 << 20), "y": torch.zeros(5, 3)}
    read(shardplan.FsspecReader(url, thread_count=8, **options), stored, items, targets)
    assert bits(targets["x"]) == bits(wanted)
    assert bits(targets["y"]) == bits(wanted[:, 7:10])
    assert not shardplan.fallbacks()


def test_few_requests_in_a_whole_load(store: ObjectStore) -> None:
    state_dict = {f"t{at}": random_tensor((64, 64), torch.float32, at) for at in range(2000)}
    url = "s3://bucket/requests"
    dcp.save(
        state_dict,
        storage_writer=FsspecWriter(url, sync_files=False, **store.options),
        no_dist=True,
    )
    size = fsspec.filesystem("s3", **store.options).size(f"bucket/requests/{FILE}")
    targets = {name: torch.zeros_like(tensor) for name, tensor in state_dict.items()}
    before = store.requests()
    shardplan.register()
    try:
        dcp.load(targets, storage_reader=FsspecReader(url, **store.options), no_dist=True)
    finally:
        shardplan.unregister()
    assert all(bits(targets[name]) == bits(tensor) for name, tensor in state_dict.items())
    of_metadata = 1
    assert store.requests() - before <= of_metadata + size // (8 << 20)
    assert not shardplan.fallbacks()


def test_a_synchronous_file_system_is_called_by_one_thread(tmp_path: Path) -> None:
    stored = StoredBoxes(tmp_path)
    items = [
        item_of(stored.add(f"t{at}", saved(torch.ones(9)), (0,), file=f"{at}.distcp"), (9,))
        for at in range(20)
    ]
    targets = {f"t{at}": torch.zeros(9) for at in range(20)}
    SlowToOpen.threads.clear()
    read(shardplan.FsspecReader(f"slowtoopen://{tmp_path}", thread_count=5), stored, items, targets)
    assert SlowToOpen.threads == {threading.get_ident()}
    assert all(bool((target == 1).all()) for target in targets.values())


def _failing(folder: Path) -> tuple[StoredBoxes, list[Any]]:
    stored = StoredBoxes(folder)
    index = stored.add("layer.weight", saved(torch.ones(1000)), (0,))
    return stored, [item_of(index, (1000,))]


def test_a_missing_file(put: Put, tmp_path: Path) -> None:
    stored, items = _failing(tmp_path)
    (tmp_path / FILE).rename(tmp_path / "other")
    url, options = put(tmp_path)
    for reader in (shardplan.FsspecReader, FsspecReader):
        with pytest.raises(FileNotFoundError) as caught:
            read(reader(url, **options), stored, items, {"layer.weight": torch.zeros(1000)})
        if reader is shardplan.FsspecReader and hasattr(caught.value, "__notes__"):
            (note,) = caught.value.__notes__
            assert "'layer.weight'" in note and FILE in note
            assert "1 of 1 items were not read" in note


def test_a_file_that_is_too_short(put: Put, tmp_path: Path) -> None:
    stored, items = _failing(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: len(content) // 2])
    url, options = put(tmp_path)
    raised = []
    for reader in (shardplan.FsspecReader, FsspecReader):
        with pytest.raises(Exception) as caught:
            read(reader(url, **options), stored, items, {"layer.weight": torch.zeros(1000)})
        raised.append((type(caught.value), str(caught.value)))
    assert raised[0] == raised[1]


class Broken(LocalFileSystem):
    protocol = "broken"
    error: BaseException = ValueError()
    after = 0

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> Any:
        Broken.after -= 1
        if Broken.after < 0:
            raise Broken.error
        return super().cat_file(path, start, end, **kwargs)


fsspec.register_implementation("broken", Broken, clobber=True)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize(
    "error", [PermissionError(13, "no"), RuntimeError("gone"), KeyboardInterrupt()], ids=repr
)
def test_exceptions_of_the_file_system(error: BaseException, after: int, tmp_path: Path) -> None:
    stored, items = _failing(tmp_path)
    other = stored.add("other", saved(torch.ones(3)), (0,), file="__1.distcp")
    items.insert(0, item_of(other, (3,)))
    Broken.error, Broken.after = error, after
    targets = {"layer.weight": torch.zeros(1000), "other": torch.zeros(3)}
    with pytest.raises(type(error)) as caught:
        read(shardplan.FsspecReader(f"broken://{tmp_path}"), stored, items, targets)
    assert caught.value is error
    assert caught.traceback[-1].name == "cat_file"
    if isinstance(error, Exception) and hasattr(error, "__notes__"):
        name = "other" if after == 0 else "layer.weight"
        assert f"while reading '{name}'" in error.__notes__[-1]
        assert f"{2 - after} of 2 items were not read" in error.__notes__[-1]


class Wrong(LocalFileSystem):
    protocol = "wrong"
    answer: Any = None

    def cat_file(self, *args: Any, **kwargs: Any) -> Any:
        return Wrong.answer(super().cat_file(*args, **kwargs))


fsspec.register_implementation("wrong", Wrong, clobber=True)


def test_answers_that_are_no_bytes_or_too_long(tmp_path: Path) -> None:
    stored, items = _failing(tmp_path)
    for answer in (bytearray, memoryview, lambda content: content + b"more"):
        Wrong.answer = staticmethod(answer)
        target = torch.zeros(1000)
        read(shardplan.FsspecReader(f"wrong://{tmp_path}"), stored, items, {"layer.weight": target})
        assert bool((target == 1).all())
    Wrong.answer = staticmethod(str)
    with pytest.raises(TypeError, match="bytes-like object is required"):
        read(
            shardplan.FsspecReader(f"wrong://{tmp_path}"),
            stored,
            items,
            {"layer.weight": torch.zeros(1000)},
        )


def test_hooks_are_called_item_by_item(put: Put, tmp_path: Path) -> None:
    stored = StoredBoxes(tmp_path)
    items = [item_of(stored.add(f"t{at}", saved(torch.ones(9)), (0,)), (9,)) for at in range(5)]
    url, options = put(tmp_path)

    class Planner(DefaultLoadPlanner):
        committed: list[str] = []  # noqa: RUF012

        def commit_tensor(self, read_item: Any, tensor: torch.Tensor) -> None:
            assert bool((tensor == 1).all())
            self.committed.append(read_item.dest_index.fqn)

    Planner.committed.clear()
    targets = {f"t{at}": torch.zeros(9) for at in range(5)}
    read(shardplan.FsspecReader(url, **options), stored, items, targets, Planner())
    assert Planner.committed == list(targets)
    assert not shardplan.fallbacks()


def test_wrong_checksums(put: Put, tmp_path: Path) -> None:
    stored, items = _failing(tmp_path)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[1500] ^= 1
    (tmp_path / FILE).write_bytes(content)
    url, options = put(tmp_path)
    reader = shardplan.FsspecReader(url, verify=True, **options)
    with pytest.raises(RuntimeError, match=r"'layer.weight'.*has a wrong checksum in .*data/0"):
        read(reader, stored, items, {"layer.weight": torch.zeros(1000)})
