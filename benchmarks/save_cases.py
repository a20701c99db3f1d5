"""Rows of ``write_data``: the bytes of a state dict into the files of a checkpoint."""

from __future__ import annotations

import filecmp
import gc
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

import shardplan

from .agreement import expect
from .harness import UPSTREAM_SECONDS, Row, Speedup, Timing, alternate, timed
from .loading import Tensors, added_by
from .measures import Bound, Share, added_by_each
from .object_store import object_store

SMALL = 20_000
LARGE = 64
LARGE_SIZE = 32 << 20
FILE = "__0_0.distcp"
WRITER: dict[str, Any] = {"ours": shardplan.FileSystemWriter, "upstream": dcp.FileSystemWriter}
PLANNER: dict[str, Any] = {"ours": shardplan.DefaultSavePlanner, "upstream": dcp.DefaultSavePlanner}


def save(full: bool) -> Iterator[Row]:
    """Small tensors, large ones on more threads, memory, and streams."""
    rounds = 9 if full else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from _small(folder, 64, torch.float32, "256 B", rounds)
        yield from _small(folder, 4_096, torch.bfloat16, "8 KiB, bf16", rounds)
        tensors = {
            f"layer.{at}": torch.randint(2**31 - 1, (LARGE_SIZE // 8,)).view(torch.float32)
            for at in range(LARGE)
        }
        large = _Large(tensors, rounds)
        counts = [count for count in (1, 2, 4, 8, 16) if count <= len(os.sched_getaffinity(0))]
        for threads in counts:
            yield large.row(folder, "", "cpu", threads)
        yield large.row(folder, ", fsync", "cpu", counts[-1], sync=True)
        if (memory := Path("/dev/shm")).is_dir():
            with tempfile.TemporaryDirectory(dir=memory) as in_memory:
                for threads in counts:
                    yield large.row(Path(in_memory), ", tmpfs", "cpu", threads)
        if torch.cuda.is_available():
            for threads in counts:
                yield large.row(folder, "", "cuda", threads)
            yield _memory(folder)
    if importlib.util.find_spec("safetensors") is not None:
        with tempfile.TemporaryDirectory() as name:
            yield _safetensors(Path(name), rounds)
            yield _safetensors_memory(Path(name))
    yield _streams("memory://saved", {}, SMALL, 64, "256 B, fsspec memory", rounds)
    if all(importlib.util.find_spec(name) is not None for name in ("moto", "s3fs")):
        with object_store(latency=0.02) as store:
            fsspec.filesystem("s3", **store.options).mkdir("bucket")
            size = "64 KiB, s3fs, 20 ms a request"
            yield _streams("s3://bucket/saved", store.options, 2_000, 1 << 14, size, rounds)


def writing(
    who: str, folder: Path, tensors: Tensors, threads: int = 1, sync: bool = False
) -> Callable[[], None]:
    """Plans a save, and returns the call that writes its data."""
    options = {"write_threads": threads} if who == "ours" else {}
    return _call(who, WRITER[who](folder / who, sync_files=sync, **options), tensors)


def _call(who: str, writer: Any, tensors: Tensors) -> Callable[[], None]:
    """Plans a save to a writer, and returns the call that writes its data."""
    planner = PLANNER[who]()
    planner.set_up_planner(tensors, None, True)
    writer.set_up_storage_writer(True)
    plans, _ = planner.create_global_plan([writer.prepare_local_plan(planner.create_local_plan())])
    plan = planner.finish_plan(writer.prepare_global_plan(plans)[0])
    return lambda: writer.write_data(plan, planner).wait()


def _checked(folder: Path, calls: tuple[Callable[[], None], ...]) -> None:
    """Calls ours and upstream's, and compares the files."""
    for call in calls:
        call()
    ours, upstream = (folder / who / FILE for who in WRITER)
    expect(filecmp.cmp(ours, upstream, shallow=False), "the files differ")


HF_WRITER: dict[str, Any] = {
    "ours": shardplan.HuggingFaceStorageWriter,
    "upstream": dcp.HuggingFaceStorageWriter,
}


def _safetensors(folder: Path, rounds: int) -> Row:
    tensors = {f"layer.{at}": torch.randn(LARGE_SIZE // 4) for at in range(LARGE)}
    calls = tuple(_call(who, each(str(folder / who)), tensors) for who, each in HF_WRITER.items())
    for call in calls:
        call()
    sizes = [[file.stat().st_size for file in (folder / who).iterdir()] for who in HF_WRITER]
    expect(sizes[0] == sizes[1], "the files differ in size")
    ours, upstream = alternate(calls, rounds, budgets=(30, 15))
    return Speedup(
        f"write_data, {LARGE} tensors of 32 MiB, safetensors",
        "with fsync, ours with as many threads as CPUs",
        ours,
        upstream,
        target=None,
    )


def _safetensors_memory(folder: Path) -> Row:
    added = added_by_each(HF_WRITER, _added_by_safetensors, folder)
    return Bound(
        f"memory beyond {LARGE} tensors of 32 MiB, safetensors",
        "peak of the process",
        added["ours"],
        added["upstream"],
        "MiB",
        target=64,
    )


def _added_by_safetensors(who: str, folder: Path) -> float:
    tensors = {f"layer.{at}": torch.full((LARGE_SIZE // 4,), float(at)) for at in range(LARGE)}
    _call(who, HF_WRITER[who](str(folder / "few")), {"small": torch.ones(4)})()
    return added_by(_call(who, HF_WRITER[who](str(folder / who)), tensors))


def _streams(
    url: str, options: dict[str, Any], count: int, elements: int, size: str, rounds: int
) -> Row:
    tensors = {f"layer.{at}": torch.randn(elements) for at in range(count)}
    writers = {"ours": shardplan.FsspecWriter, "upstream": FsspecWriter}
    calls = tuple(
        _call(who, writer(f"{url}/{who}", sync_files=False, **options), tensors)
        for who, writer in writers.items()
    )
    for call in calls:
        call()
    fs, path = fsspec.url_to_fs(url, **options)
    fs.invalidate_cache()
    same = fs.cat_file(f"{path}/ours/{FILE}") == fs.cat_file(f"{path}/upstream/{FILE}")
    expect(same, "the files differ")
    ours, upstream = alternate(calls, rounds, budgets=(30, 15))
    return Speedup(f"write_data, {count:,} tensors of {size}", "", ours, upstream, target=None)


def _in_new_files(folder: Path, calls: tuple[Callable[[], None], ...], rounds: int) -> list[Timing]:
    """Times each call while no other file in the page cache has to be written first."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        gc.collect()
        for call, taken in zip(calls, times, strict=True):
            if sum(taken) > UPSTREAM_SECONDS:
                continue
            for file in folder.rglob(FILE):
                file.unlink()
            os.sync()
            taken.append(timed(call)[0])
    return [Timing(min(taken), len(taken)) for taken in times]


def _small(
    folder: Path, elements: int, dtype: torch.dtype, size: str, rounds: int
) -> Iterator[Row]:
    tensors = {f"layer.{at}": torch.randn(elements).to(dtype) for at in range(SMALL)}
    calls = tuple(writing(who, folder, tensors) for who in WRITER)
    _checked(folder, calls)
    ours, upstream = _in_new_files(folder, calls, rounds)
    work = f"write_data, {SMALL:,} tensors of {size}"
    yield Speedup(work, "one thread, without fsync", ours, upstream, target=10)
    mine, theirs = (timing.seconds / SMALL * 1e6 for timing in (ours, upstream))
    yield Bound("the same", "a tensor", mine, theirs, "us", target=12)


@dataclass(frozen=True)
class _Large:
    """Tensors of LARGE_SIZE bytes."""

    tensors: Tensors
    rounds: int

    def row(self, folder: Path, where: str, device: str, threads: int, sync: bool = False) -> Row:
        """Times writes of tensors of a device, and raw writes of CPU tensors."""
        tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        calls = (
            writing("ours", folder, tensors, threads, sync),
            writing("upstream", folder, tensors, sync=sync),
        )
        _checked(folder, calls)
        raw_call = _raw(folder / "raw", self.tensors, threads, sync)
        ours, upstream, raw = _in_new_files(folder, (*calls, raw_call), self.rounds)
        kind = "CUDA tensors" if device == "cuda" else "tensors"
        plural = "s" if threads > 1 else ""
        share = 0.9 if device == "cpu" else 0.85
        return Share(
            f"write_data, {LARGE} {kind} of 32 MiB{where}, {threads} thread{plural}",
            "a new file; raw: write of CPU tensors, as many threads",
            LARGE * LARGE_SIZE,
            ours,
            upstream,
            raw,
            share if threads == 1 else None,
        )


def _raw(folder: Path, tensors: Tensors, threads: int, sync: bool) -> Callable[[], None]:
    """Returns a call that writes as many bytes to a file, without their checksums."""
    views: list[Any] = [tensor.view(torch.uint8).numpy() for tensor in tensors.values()]
    folder.mkdir(exist_ok=True)
    file = folder / FILE

    def write(descriptor: int, thread: int) -> None:
        for at in range(thread, len(views), threads):
            done = 0
            while done < LARGE_SIZE:
                done += os.pwrite(descriptor, views[at][done:], at * LARGE_SIZE + done)

    def call() -> None:
        with file.open("wb", buffering=0) as stream:
            with ThreadPoolExecutor(threads) as pool:
                for each in [pool.submit(write, stream.fileno(), at) for at in range(threads)]:
                    each.result()
            if sync:
                os.fsync(stream.fileno())

    return call


def _memory(folder: Path) -> Row:
    """Memory of the host that a save of CUDA tensors takes, in a process of its own."""
    added = added_by_each(WRITER, _added_by_writing, folder)
    return Bound(
        f"memory of the host, {LARGE} CUDA tensors of 32 MiB",
        "peak of the process; as many threads as CPUs",
        added["ours"],
        added["upstream"],
        "MiB",
        target=256,
    )


def _added_by_writing(who: str, folder: Path) -> float:
    tensors = {
        f"layer.{at}": torch.full((LARGE_SIZE // 4,), float(at), device="cuda")
        for at in range(LARGE)
    }
    few = {"small": torch.ones(4, device="cuda")}
    writing(who, folder, few)()
    return added_by(writing(who, folder, tensors, len(os.sched_getaffinity(0))))
