"""Hooks, errors, checksums and interrupts of native reads."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import DefaultLoadPlanner, filesystem
from torch.distributed.checkpoint._extension import ExtensionRegistry, StreamTransformExtension
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import ReadItem
from torch.utils._python_dispatch import TorchDispatchMode

import shardplan
from contract.interrupts import Interrupt, interrupted
from parity.stored_boxes import StoredBoxes, bits, item_of, read, saved
from shardplan.dcp import fallbacks
from shardplan.dcp.storage import file_access, tensor_data
from shardplan.dcp.storage.progress import Bar

Reader = shardplan.FileSystemReader


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    fallbacks.clear()
    yield
    fallbacks.clear()


def checkpoint(path: Path, count: int = 6) -> tuple[StoredBoxes, list[ReadItem]]:
    """Tensors t0, t1, ... in two files."""
    stored = StoredBoxes(path)
    items = []
    for number in range(count):
        index = stored.add(
            f"t{number}",
            saved(torch.arange(12.0).view(3, 4) + number),
            (0, 0),
            file=f"__{number % 2}_0.distcp",
        )
        items.append(item_of(index, (3, 4)))
    return stored, items


def blank(count: int = 6) -> dict[str, Any]:
    return {f"t{number}": torch.zeros(3, 4) for number in range(count)}


class Hooked(DefaultLoadPlanner):
    """Reads each item into a tensor that it reuses, and copies it when it is committed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, str]] = []
        self.scratch = torch.zeros(3, 4)

    def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
        self.calls.append(("resolve", read_item.dest_index.fqn))
        self.scratch.fill_(-1)
        return self.scratch

    def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
        self.calls.append(("commit", read_item.dest_index.fqn))
        assert tensor.data_ptr() == self.scratch.data_ptr()
        self.state_dict[read_item.dest_index.fqn].copy_(tensor.mul_(2))

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        self.calls.append(("bytes", read_item.dest_index.fqn))
        super().load_bytes(read_item, value)


def test_hooks_are_called_item_by_item_as_upstream_calls_them(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path)
    results = []
    for reader in (Reader(tmp_path), filesystem.FileSystemReader(tmp_path)):
        planner, targets = Hooked(), blank()
        read(reader, stored, items, targets, planner)
        results.append((planner.calls, {name: bits(each) for name, each in targets.items()}))
    assert results[0] == results[1]
    assert not shardplan.fallbacks()


@pytest.mark.parametrize("hook", ["lookup_tensor", "transform_tensor", "resolve_tensor"])
@pytest.mark.parametrize("where", ["class", "object"])
def test_every_overridden_hook_is_called(hook: str, where: str, tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path)
    called = []

    def overridden(planner: Any) -> Any:
        inherited = getattr(DefaultLoadPlanner, hook)

        def call(*args: Any) -> Any:
            called.append(hook)
            return inherited(planner, *args)

        return call

    planner = DefaultLoadPlanner()
    if where == "class":
        method = getattr(DefaultLoadPlanner, hook)

        def call(self: Any, *args: Any) -> Any:
            called.append(hook)
            return method(self, *args)

        planner = type("Planner", (DefaultLoadPlanner,), {hook: call})()
    else:
        setattr(planner, hook, overridden(planner))
    targets = blank()
    read(Reader(tmp_path), stored, items, targets, planner)
    assert len(called) == len(items)
    assert torch.equal(targets["t5"], torch.arange(12.0).view(3, 4) + 5)


def test_a_target_that_only_upstream_writes_is_resolved_once(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path, 1)

    class Sparse(Hooked):
        def __init__(self) -> None:
            super().__init__()
            self.scratch = torch.zeros(3, 4, dtype=torch.int64)

    planner = Sparse()
    read(Reader(tmp_path), stored, items, blank(1), planner)
    assert planner.calls == [("resolve", "t0"), ("commit", "t0")]
    assert sum(shardplan.fallbacks().values()) == 1


def test_whole_checkpoints_with_bytes(tmp_path: Path) -> None:
    state = {"a": torch.arange(5), "step": 3, "nested": {"b": torch.ones(2, 2), "name": "x"}}
    dcp.save(state, checkpoint_id=tmp_path)
    found = {"a": torch.zeros(5).long(), "step": 0, "nested": {"b": torch.zeros(2, 2), "name": ""}}
    dcp.load(found, storage_reader=Reader(tmp_path), planner=shardplan.DefaultLoadPlanner())
    assert found["step"] == 3
    assert found["nested"]["name"] == "x"
    assert torch.equal(found["a"], state["a"])
    assert not shardplan.fallbacks()


def test_overridden_load_bytes_gets_the_items_of_the_plan(tmp_path: Path) -> None:
    dcp.save({"a": torch.arange(5), "step": 3}, checkpoint_id=tmp_path)
    seen = []

    class Planner(DefaultLoadPlanner):
        def finish_plan(self, new_plan: Any) -> Any:
            self.plan = new_plan
            return new_plan

        def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
            seen.append(any(item is read_item for item in self.plan.items))
            super().load_bytes(read_item, value)

    dcp.load(
        {"a": torch.zeros(5).long(), "step": 0}, storage_reader=Reader(tmp_path), planner=Planner()
    )
    assert seen == [True]


def test_register_reaches_upstreams_reader(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path)
    upstream = filesystem.FileSystemReader.read_data
    shardplan.register()
    try:
        assert filesystem.FileSystemReader.read_data is tensor_data.read_data
        targets = blank()
        read(filesystem.FileSystemReader(tmp_path), stored, items, targets)
        assert torch.equal(targets["t3"], torch.arange(12.0).view(3, 4) + 3)
        assert not shardplan.fallbacks()
    finally:
        shardplan.unregister()
    assert filesystem.FileSystemReader.read_data is upstream


def replaced_load(monkeypatch: pytest.MonkeyPatch) -> None:
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: load(*args, **kwargs))


def other_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    class Transforms(filesystem._StorageReaderTransforms):
        pass

    monkeypatch.setattr(filesystem, "_StorageReaderTransforms", Transforms)


def other_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    slice_file = filesystem.FileSystemReader._slice_file
    monkeypatch.setattr(Reader, "_slice_file", lambda *args: slice_file(*args), raising=False)


def mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_data, "_maps_files", lambda: True)


def test_the_setting_that_maps_files() -> None:
    assert not tensor_data._maps_files()
    torch.utils.serialization.config.load.mmap = True
    try:
        assert tensor_data._maps_files()
    finally:
        torch.utils.serialization.config.load.mmap = False


def big_endian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.serialization, "get_default_load_endianness", lambda: "anything but None"
    )


@pytest.mark.parametrize(
    "change", [replaced_load, other_transforms, other_slices, mapped, big_endian]
)
def test_what_upstream_would_look_at_makes_upstream_read(
    change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, items = checkpoint(tmp_path)
    change(monkeypatch)
    called = []
    monkeypatch.setattr(
        tensor_data.originals, "reader_read_data", lambda *args: called.append(args)
    )
    read_data = tensor_data.read_data
    planner = DefaultLoadPlanner()
    planner.set_up_planner(blank(), stored.metadata, True)
    reader = Reader(tmp_path)
    reader.set_up_storage_reader(stored.metadata, True)
    read_data(reader, dcp.LoadPlan(items), planner)
    assert len(called) == 1
    assert list(shardplan.fallbacks().values()) == [1]


def test_dispatch_modes_see_upstreams_operations(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path)
    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    targets = blank()
    with Mode():
        read(Reader(tmp_path), stored, items, targets)
    assert seen.count("aten.copy_.default") == len(items)
    assert torch.equal(targets["t3"], torch.arange(12.0).view(3, 4) + 3)


def test_a_device_context_does_not_matter(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path)
    targets = blank()
    with torch.device("meta"):
        read(Reader(tmp_path), stored, items, targets)
    assert torch.equal(targets["t3"], torch.arange(12.0).view(3, 4) + 3)
    assert not shardplan.fallbacks()


def test_autograd_notices_the_write(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path, 1)
    weight = torch.zeros(3, 4, requires_grad=True)
    loss = (weight * weight).sum()
    version = weight._version
    read(Reader(tmp_path), stored, items, {"t0": weight})
    assert weight._version > version
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_inference_tensors(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path, 1)
    with torch.inference_mode():
        targets = {"t0": torch.zeros(3, 4, dtype=torch.float64)}
        read(Reader(tmp_path), stored, items, targets)
        assert targets["t0"][2, 3] == 11
        assert not shardplan.fallbacks()
    # Elsewhere, upstream's code decides whether they may be written.
    read(Reader(tmp_path), stored, items, targets)
    assert sum(shardplan.fallbacks().values()) == 1


def test_plain_and_missing_locations(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path)
    del stored.metadata.storage_data[items[2].storage_index]
    with pytest.raises(KeyError) as raised:
        read(Reader(tmp_path), stored, items, blank())
    assert raised.value.args == (items[2].storage_index,)


def test_transformed_items_are_left_to_upstream(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path)
    stored.metadata.storage_data[items[1].storage_index].transform_descriptors = ["stream.zstd"]
    with pytest.raises(ValueError, match="Unknown extension"):
        read(Reader(tmp_path), stored, items, blank())


def test_each_item_has_a_location_of_its_own(tmp_path: Path) -> None:
    """A transformed item, and two that share a location, do not keep others from native code."""
    stored, items = checkpoint(tmp_path)
    locations = stored.metadata.storage_data
    twin = ReadItem(
        items[0].type,
        MetadataIndex("twin", torch.Size([0, 0]), 0),
        *(items[0].dest_offsets, MetadataIndex("twin", torch.Size([0, 0]), 0)),
        *(items[0].storage_offsets, items[0].lengths),
    )
    locations[twin.storage_index] = locations[items[0].storage_index]
    transformed = locations[items[1].storage_index]
    transformed.transform_descriptors = ["stream.plain"]

    class Plain(StreamTransformExtension):
        @staticmethod
        def from_descriptor(version: str) -> Plain:
            return Plain()

        @staticmethod
        def registry_name() -> str:
            return "stream.plain"

        def get_descriptor(self) -> str:
            return "stream.plain"

        def transform_to(self, output: Any) -> Any:
            return output

        def transform_from(self, input: Any) -> Any:
            return input

    registry = ExtensionRegistry()
    registry.register(Plain)
    targets = {**blank(), "twin": torch.zeros(3, 4)}
    read(Reader(tmp_path, registry), stored, [*items, twin], targets)
    for at in range(len(items)):
        assert torch.equal(targets[f"t{at}"], torch.arange(12.0).view(3, 4) + at)
    assert torch.equal(targets["twin"], targets["t0"])
    assert shardplan.fallbacks() == {"read data: the item has no plain location": 1}


def test_items_that_rename_a_tensor(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path, 1)
    renamed = ReadItem(
        items[0].type,
        MetadataIndex("other", torch.Size([0, 0]), 0),
        *(items[0].dest_offsets, items[0].storage_index, items[0].storage_offsets),
        items[0].lengths,
    )
    targets = {"other": torch.zeros(3, 4)}
    read(Reader(tmp_path), stored, [renamed], targets)
    assert torch.equal(targets["other"], torch.arange(12.0).view(3, 4))
    assert sum(shardplan.fallbacks().values()) == 1


def notes_of(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", []))


needs_notes = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11"
)


@needs_notes
def test_an_error_of_upstream_gets_a_note(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path)
    path = tmp_path / "__1_0.distcp"
    begin = stored.metadata.storage_data[items[3].storage_index].offset
    content = bytearray(path.read_bytes())
    content[begin] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed") as raised:
        read(Reader(tmp_path), stored, items, blank())
    note = notes_of(raised.value)
    assert f"while reading 't3' from {path}, bytes {begin:,} to" in note
    assert "is not a zip file of torch.save, at byte 0" in note
    assert "1 of 1 items were not read: 't3'" in note
    assert notes_of(pickle.loads(pickle.dumps(raised.value))) == note


@needs_notes
def test_a_missing_file_is_named_with_its_tensor(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path)
    (tmp_path / "__1_0.distcp").unlink()
    with pytest.raises(FileNotFoundError) as raised:
        read(Reader(tmp_path, thread_count=1), stored, items, blank())
    assert raised.value.filename == str(tmp_path / "__1_0.distcp")
    assert "tensor 't1': " in notes_of(raised.value)
    assert "cannot be opened; 3 of 6 items were not read: 't1', 't3', 't5'" in notes_of(
        raised.value
    )


def test_verify_names_the_tensor_and_the_bytes(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path)
    path = tmp_path / "__0_0.distcp"
    location = stored.metadata.storage_data[items[4].storage_index]
    content = bytearray(path.read_bytes())
    at = content.index((torch.arange(12.0) + 4).numpy().tobytes(), location.offset)
    content[at + 5] ^= 1
    path.write_bytes(content)
    read(Reader(tmp_path), stored, items, blank())
    with pytest.raises(RuntimeError) as raised:
        read(Reader(tmp_path, verify=True, thread_count=1), stored, items, blank())
    assert str(raised.value).startswith(
        f"tensor 't4': {path}, bytes {location.offset:,} to "
        f"{location.offset + location.length:,}: has a wrong checksum in archive/data/0, bytes "
    )
    assert "4 of 6 items were not read: 't1', 't3', 't4', 't5'" in str(raised.value)


def test_verify_accepts_what_is_whole(tmp_path: Path) -> None:
    stored, items = checkpoint(tmp_path)
    targets = blank()
    read(Reader(tmp_path, verify=True), stored, items, targets)
    assert torch.equal(targets["t3"], torch.arange(12.0).view(3, 4) + 3)
    read(Reader(tmp_path, verify=True), stored, items, blank(), Hooked())


PREAD = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
ssize_t pread64(int file, void* into, size_t count, off_t offset) {
  static ssize_t (*real)(int, void*, size_t, off_t);
  if (!real) real = dlsym(RTLD_NEXT, "pread64");
  const char* limit = getenv("FAIL_FROM");
  if (limit && offset + (off_t)count > atol(limit)) { errno = EIO; return -1; }
  // The tensor is located by then, because its data is being read.
  if (getenv("SHRINK") && count > 100000) truncate(getenv("SHRINK"), offset + 5000);
  return real(file, into, count, offset);
}
ssize_t pread(int file, void* into, size_t count, off_t offset) {
  return pread64(file, into, count, offset);
}
"""


def output_with_pread(tmp_path: Path, **environment: str) -> str:
    """Loads two tensors in a process whose ``pread`` behaves otherwise. Returns its error."""
    library = tmp_path / "pread.so"
    (tmp_path / "pread.c").write_text(PREAD)
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, tmp_path / "pread.c", "-ldl"], check=True
    )
    directory = tmp_path / "checkpoint"
    state = {"small": torch.ones(3), "large": torch.ones(1 << 20)}
    dcp.save(state, checkpoint_id=directory, no_dist=True)
    code = """
        import sys, torch, shardplan, torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.api import CheckpointException
        state = {"small": torch.zeros(3), "large": torch.zeros(1 << 20)}
        reader = shardplan.FileSystemReader(sys.argv[1])
        planner = shardplan.DefaultLoadPlanner()
        try:
            dcp.load(state, storage_reader=reader, planner=planner, no_dist=True)
        except CheckpointException as error:
            print(error)
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(directory)],
        # A sanitizer's library, if there is one, has to come first.
        env={
            **os.environ,
            "LD_PRELOAD": f"{os.environ.get('LD_PRELOAD', '')} {library}",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    assert str(directory / "__0_0.distcp") in found.stdout, found.stderr
    return found.stdout


def test_an_input_output_error_names_file_byte_and_tensor(tmp_path: Path) -> None:
    output = output_with_pread(tmp_path, FAIL_FROM=str(1 << 20))
    assert "OSError: [Errno 5] Input/output error" in output
    if sys.version_info >= (3, 11):
        assert "tensor 'large': " in output
        assert "cannot be read at byte " in output
        assert "items were not read: 'large'" in output


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint" / "__0_0.distcp"
    output = output_with_pread(tmp_path, SHRINK=str(file))
    assert "RuntimeError: tensor 'large': " in output
    assert f"ends at byte {file.stat().st_size:,}, within the part" in output
    assert "items were not read: 'large'" in output


def _differing(tmp_path: Path) -> tuple[StoredBoxes, list[ReadItem], list[ReadItem]]:
    """Stores four tensors, larger than a piece, and items for them in two orders."""
    stored = StoredBoxes(tmp_path)
    size = 5 << 20
    items = [
        item_of(
            stored.add(
                f"t{at}", saved(torch.full((size,), float(at))), (0,), file=f"{at % 2}.distcp"
            ),
            (size,),
        )
        for at in range(4)
    ]
    return stored, items, items[::-1]


@pytest.mark.parametrize("threads", [1, 4])
def test_names_of_one_tensor_are_read_in_upstreams_order(threads: int, tmp_path: Path) -> None:
    """Tied weights: the last one that upstream reads stays."""
    stored, *orders = _differing(tmp_path)
    for items in (*orders, [orders[0][at] for at in (2, 0, 3, 1)]):
        kept = []
        for reader in (
            Reader(tmp_path, thread_count=threads),
            filesystem.FileSystemReader(tmp_path),
        ):
            target = torch.zeros(5 << 20)
            read(reader, stored, items, {f"t{at}": target for at in range(4)})
            assert target.unique().numel() == 1
            kept.append(target[0].item())
        assert kept[0] == kept[1]
    assert not shardplan.fallbacks()


def test_overlapping_boxes_of_one_tensor_are_read_in_upstreams_order(tmp_path: Path) -> None:
    stored = StoredBoxes(tmp_path)
    indices = [
        stored.add("x", saved(torch.full((6, 10), float(at))), (0, at), file=f"{at % 2}.distcp")
        for at in range(3)
    ]
    items = [
        ReadItem(
            item_of(index, (6, 10)).type,
            MetadataIndex("x", torch.Size([0, 0]), 0),
            torch.Size([0, 5 * at]),
            index,
            torch.Size([0, 0]),
            torch.Size([6, 10]),
        )
        for at, index in enumerate(indices)
    ]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        kept = []
        for reader in (Reader(tmp_path, thread_count=3), filesystem.FileSystemReader(tmp_path)):
            target = torch.zeros(6, 20)
            read(reader, stored, [items[at] for at in order], {"x": target})
            kept.append(bits(target))
        assert kept[0] == kept[1]


def test_a_failure_among_names_of_one_tensor_names_the_unreached(tmp_path: Path) -> None:
    stored, items, _ = _differing(tmp_path)
    damaged = bytearray((tmp_path / "1.distcp").read_bytes())
    damaged[-100_000] ^= 1
    (tmp_path / "1.distcp").write_bytes(damaged)
    target = torch.zeros(5 << 20)
    targets = {f"t{at}": target for at in range(4)}
    with pytest.raises(
        RuntimeError, match=r"'t3'.*wrong checksum.*1 of 4 items were not read: 't3'"
    ):
        read(Reader(tmp_path, verify=True), stored, items, targets)


def large_checkpoint(path: Path, count: int) -> tuple[StoredBoxes, list[ReadItem]]:
    stored = StoredBoxes(path)
    part = saved(torch.zeros(4 << 20))
    index = stored.add("x", part, (0,))
    return stored, [item_of(index, (4 << 20,))] * count


@pytest.mark.parametrize("threads", [1, 3])
def test_a_signal_ends_a_load_and_its_threads(threads: int, tmp_path: Path) -> None:
    stored, items = large_checkpoint(tmp_path, 2000)

    with interrupted(after=0.2, within=2):
        read(Reader(tmp_path, thread_count=threads), stored, items, {"x": torch.zeros(4 << 20)})


def test_other_threads_run_while_tensors_are_read(tmp_path: Path) -> None:
    stored, items = large_checkpoint(tmp_path, 300)
    ticks = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.monotonic()
    read(Reader(tmp_path, thread_count=1), stored, items, {"x": torch.zeros(4 << 20)})
    taken = time.monotonic() - began
    stop.set()
    thread.join()
    assert sum(began < at < began + taken for at in ticks) > taken / 0.001 / 10


def test_progress_is_reported(tmp_path: Path) -> None:
    stored, items = large_checkpoint(tmp_path, 200)
    calls: list[tuple[int, int]] = []
    reader = Reader(tmp_path, progress=lambda done, wanted: calls.append((done, wanted)))
    read(reader, stored, items, {"x": torch.zeros(4 << 20)})
    total = 200 * (16 << 20)
    assert calls[-1] == (total, total)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert {wanted for _, wanted in calls} == {total}
    assert len(calls) > 2

    def fails(done: int, wanted: int) -> None:
        raise Interrupt

    with pytest.raises(Interrupt):
        read(Reader(tmp_path, progress=fails), stored, items, {"x": torch.zeros(4 << 20)})


def test_the_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    bar = Bar("loading")
    bar(1 << 20, 8 << 20)
    assert capsys.readouterr().err == ""
    now[0] = 2.0
    bar(2 << 20, 8 << 20)
    assert "loading [#######                       ] 2" in capsys.readouterr().err
    bar(8 << 20, 8 << 20)
    assert capsys.readouterr().err.endswith("\n")


def test_thread_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(24)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert file_access.default_thread_count() == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert Reader(tmp_path).thread_count == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "100")
    assert Reader(tmp_path).thread_count == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "many")
    assert Reader(tmp_path).thread_count == 16
    with pytest.raises(ValueError, match="thread_count must be at least 1, not 0"):
        Reader(tmp_path, thread_count=0)
