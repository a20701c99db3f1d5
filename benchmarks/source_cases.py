"""Rows of ``read_data`` from object stores and from safetensors files."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter

import shardplan

from .harness import Row, Speedup, alternate
from .loading import READER, Tensors, added_by, checked, planned
from .measures import Bound, Share, added_by_each
from .object_store import object_store

URL = "s3://bucket/checkpoint"
COUNT = 2_000
REQUEST = 16 << 20
"""Bytes of a request that the object store is asked for without shardplan and torch."""


def other_sources(rounds: int) -> Iterator[Row]:
    """Object stores and safetensors files."""
    if importlib.util.find_spec("safetensors") is not None:
        yield from _safetensors(20_000, 64, "256 B", rounds)
        yield from _safetensors(64, 1 << 23, "32 MiB", rounds)
    if all(importlib.util.find_spec(name) is not None for name in ("moto", "s3fs")):
        with object_store(latency=0.02) as store:
            fsspec.filesystem("s3", **store.options).mkdir("bucket")
            yield from _object_store(store, 64, "256 B", 1, rounds)
            yield from _object_store(store, 64, "256 B", 16, rounds)
            yield from _object_store(store, 1 << 14, "64 KiB", 1, rounds)
            yield _memory(store.options)


def _safetensors(count: int, elements: int, size: str, rounds: int) -> Iterator[Row]:
    saved = {f"layer.{at}": torch.randn(elements) for at in range(count)}
    with tempfile.TemporaryDirectory() as name:
        dcp.save(saved, storage_writer=dcp.HuggingFaceStorageWriter(name), no_dist=True)
        targets = {name: torch.empty_like(tensor) for name, tensor in saved.items()}
        readers = (
            shardplan.HuggingFaceStorageReader(name),
            dcp.HuggingFaceStorageReader(name),
        )
        calls = [planned(who, reader, targets) for who, reader in zip(READER, readers, strict=True)]
        for call in calls:
            checked(call, targets, saved)
        ours, upstream = alternate(tuple(calls), rounds, budgets=(30, 15))
    yield Speedup(
        f"read_data, {count:,} tensors of {size}, safetensors",
        "each with as many threads as by default, page cache warm",
        ours,
        upstream,
        target=None,
    )


def _object_store(store: Any, elements: int, size: str, files: int, rounds: int) -> Iterator[Row]:
    saved = {f"layer.{at}": torch.randn(elements) for at in range(COUNT)}
    writer = FsspecWriter(URL, sync_files=False, thread_count=files, **store.options)
    dcp.save(saved, storage_writer=writer, no_dist=True)
    targets = {name: torch.empty_like(tensor) for name, tensor in saved.items()}
    calls, requests = [], []
    for who, reader in zip(READER, _readers(store.options), strict=True):
        calls.append(planned(who, reader, targets))
        before = store.requests()
        checked(calls[-1], targets, saved)
        requests.append(store.requests() - before)
    fs = fsspec.filesystem("s3", **store.options)
    sizes = {
        path: entry["size"]
        for path, entry in fs.find("bucket/checkpoint", detail=True).items()
        if path.endswith(".distcp")
    }
    total = sum(sizes.values())
    ours, upstream, raw = alternate((*calls, _requests(fs, sizes)), rounds, budgets=(60, 15, 60))
    plural = "s" if files > 1 else ""
    work = f"read_data, {COUNT:,} tensors of {size}, {files} file{plural}, s3fs, 20 ms"
    yield Speedup(work, "20 ms more for each request to moto's server", ours, upstream, target=None)
    yield Share(
        work,
        "raw: s3fs's requests for the files alone",
        total,
        ours,
        upstream,
        raw,
        target=0.6,
    )
    if files == 1:
        yield Bound(
            f"requests for {total / 2**20:.0f} MiB of it",
            "",
            requests[0],
            requests[1],
            "requests",
            target=-(-total // (8 << 20)),
        )


def _readers(options: dict[str, Any]) -> tuple[FsspecReader, FsspecReader]:
    return shardplan.FsspecReader(URL, **options), FsspecReader(URL, **options)


def _requests(fs: Any, sizes: dict[str, int]) -> Callable[[], None]:
    """Returns a call that asks for all bytes of the files, in large requests at the same time."""
    ranges = [
        (path, begin, min(begin + REQUEST, size))
        for path, size in sizes.items()
        for begin in range(0, size, REQUEST)
    ]
    paths, begins, ends = (list(column) for column in zip(*ranges, strict=True))

    def call() -> None:
        fs.cat_ranges(paths, begins, ends, max_gap=None)

    return call


def _memory(options: dict[str, Any]) -> Row:
    """Peak memory of reading what ``_object_store`` has saved last."""
    added = added_by_each(READER, _added_by_reading, options)
    return Bound(
        f"memory beyond the targets, {COUNT:,} tensors of 64 KiB, s3fs",
        "peak of the process; 16 requests at a time",
        added["ours"],
        added["upstream"],
        "MiB",
        target=None,
    )


def _added_by_reading(who: str, options: dict[str, Any]) -> float:
    reader = dict(zip(READER, _readers(options), strict=True))[who]
    targets: Tensors = {f"layer.{at}": torch.zeros(1 << 14) for at in range(COUNT)}
    few = dict(list(targets.items())[:1])
    planned(who, reader, few)()
    return added_by(planned(who, reader, targets))
