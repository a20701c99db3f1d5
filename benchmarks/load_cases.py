"""Rows of ``read_data``: the bytes of a checkpoint into the tensors of a state dict."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from .agreement import expect
from .harness import UPSTREAM_SECONDS, Row, Speedup, Timing, alternate
from .loading import READER, Tensors, added_by, checked, reading
from .measures import Bound, Share, added_by_each
from .source_cases import other_sources
from .workloads import Boxes, grid, sharded, world
from .workloads.stored import save_boxes

SMALL = 20_000
LARGE = 64
LARGE_SIZE = 32 << 20
BOXES = 1_024
SIDE = 8_192


def load(full: bool) -> Iterator[Row]:
    """Small tensors, large ones on more threads, boxes of other boxes, and memory."""
    rounds = 9 if full else 5
    yield from _small(64, torch.float32, "256 B", rounds)
    yield from _small(4_096, torch.bfloat16, "8 KiB, bf16", rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tensors = {
            f"layer.{at}": torch.randint(2**31 - 1, (LARGE_SIZE // 8,)).view(torch.float32)
            for at in range(LARGE)
        }
        dcp.save(tensors, checkpoint_id=folder, no_dist=True)
        yield from _large(folder, tensors, rounds)
        yield _cold(folder, tensors)
        del tensors
        yield from _memory(folder)
    yield from other_sources(rounds)
    yield from _reshard("S(0) to S(1)", sharded((SIDE, SIDE), 0, BOXES), Shard(1))
    yield from _reshard("2-D to 1-D", grid((SIDE, SIDE), (32, 32)), Shard(0))


def _small(elements: int, dtype: torch.dtype, size: str, rounds: int) -> Iterator[Row]:
    saved = {f"layer.{at}": torch.randn(elements).to(dtype) for at in range(SMALL)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dcp.save(saved, checkpoint_id=folder, no_dist=True)
        targets = {name: torch.empty_like(tensor) for name, tensor in saved.items()}
        calls = [reading(who, folder, targets) for who in READER]
        for call in calls:
            checked(call, targets, saved)
        ours, upstream = alternate(tuple(calls), rounds, budgets=(60, 8))
    work = f"read_data, {SMALL:,} tensors of {size}"
    counted = "one thread, page cache warm"
    yield Speedup(work, counted, ours, upstream, target=12)
    mine, theirs = (timing.seconds / SMALL * 1e6 for timing in (ours, upstream))
    yield Bound("the same", "a tensor", mine, theirs, "us", target=12)


@dataclass(frozen=True)
class _Large:
    """A checkpoint of tensors of LARGE_SIZE bytes, in the page cache."""

    folder: Path
    saved: Tensors
    rounds: int

    def row(
        self, device: str, threads: int, target: float | None = None, verify: bool = False
    ) -> Row:
        """Times reads into tensors of a device, and raw reads into CPU tensors."""
        saved = {name: tensor.to(device) for name, tensor in self.saved.items()}
        targets = {name: torch.zeros_like(tensor) for name, tensor in saved.items()}
        on_host = {name: torch.zeros_like(tensor) for name, tensor in self.saved.items()}
        calls = (
            reading("ours", self.folder, targets, threads, verify),
            reading("upstream", self.folder, targets),
            _raw(self.folder, on_host, threads),
        )
        for call in calls[:2]:
            checked(call, targets, saved)
        ours, upstream, raw = alternate(calls, self.rounds, budgets=(60, UPSTREAM_SECONDS, 60))
        kind = "CUDA tensors" if device == "cuda" else "tensors"
        plural = "s" if threads > 1 else ""
        verified = ", verify=True (upstream does not verify)" if verify else ""
        return Share(
            f"read_data, {LARGE} {kind} of 32 MiB, {threads} thread{plural}{verified}",
            "page cache warm; raw: readinto CPU tensors, as many threads",
            LARGE * LARGE_SIZE,
            ours,
            upstream,
            raw,
            target,
        )


def _large(folder: Path, saved: Tensors, rounds: int) -> Iterator[Row]:
    large = _Large(folder, saved, rounds)
    counts = [count for count in (1, 2, 4, 8, 16) if count <= len(os.sched_getaffinity(0))]
    for threads in counts:
        yield large.row("cpu", threads, target=0.9 if threads == 1 else None)
    yield large.row("cpu", 1, verify=True)
    if torch.cuda.is_available():
        for threads in counts:
            yield large.row("cuda", threads, target=0.85 if threads == 1 else None)


def _raw(folder: Path, targets: Tensors, threads: int) -> Callable[[], None]:
    """Returns a call that reads as many bytes of the same file, without looking at them."""
    views: list[Any] = [tensor.view(torch.uint8).numpy() for tensor in targets.values()]
    file = folder / "__0_0.distcp"

    def read(thread: int) -> None:
        with file.open("rb", buffering=0) as stream:
            for at in range(thread, len(views), threads):
                stream.seek(at * LARGE_SIZE)
                done = 0
                while done < LARGE_SIZE:
                    done += stream.readinto(views[at][done:])

    def call() -> None:
        if threads == 1:
            read(0)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, range(threads)))

    return call


def _cold(folder: Path, saved: Tensors) -> Row:
    targets = {name: torch.zeros_like(tensor) for name, tensor in saved.items()}
    file = folder / "__0_0.distcp"

    def cold(call: Callable[[], None]) -> float:
        least = float("inf")
        for _ in range(2):
            _drop_from_page_cache(file)
            (timing,) = alternate((call,), 1)
            least = min(least, timing.seconds)
        return least

    calls = (
        reading("ours", folder, targets),
        reading("upstream", folder, targets),
        _raw(folder, targets, 1),
    )
    ours, upstream, raw = (Timing(cold(call), 2) for call in calls)
    return Share(
        f"read_data, {len(saved)} tensors of 32 MiB, 1 thread, page cache cold",
        "the file's pages were dropped",
        sum(tensor.nbytes for tensor in saved.values()),
        ours,
        upstream,
        raw,
        target=None,
    )


def _memory(folder: Path) -> Iterator[Row]:
    for what, make in (("", _contiguous), (", targets of another dtype", _converted)):
        added = added_by_each(READER, _added_by_reading, folder, make)
        yield Bound(
            f"memory beyond the targets, {LARGE} tensors of 32 MiB{what}",
            "peak of the process; as many threads as CPUs",
            added["ours"],
            added["upstream"],
            "MiB",
            target=64,
        )


def _contiguous() -> torch.Tensor:
    return torch.zeros(LARGE_SIZE // 4)


def _converted() -> torch.Tensor:
    return torch.zeros(LARGE_SIZE // 4, dtype=torch.bfloat16)


def _added_by_reading(who: str, folder: Path, make: Callable[[], torch.Tensor]) -> float:
    """Bytes that a load adds to the peak memory of this process."""
    targets = {f"layer.{at}": make() for at in range(LARGE)}
    with tempfile.TemporaryDirectory() as name:
        dcp.save({"layer.0": torch.zeros(2)}, checkpoint_id=name, no_dist=True)
        reading(who, Path(name), {"layer.0": torch.zeros(2)})()
    return added_by(reading(who, folder, targets, len(os.sched_getaffinity(0))))


def _reshard(what: str, boxes: Boxes, placement: Shard) -> Iterator[Row]:
    whole = torch.randn(SIDE, SIDE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_boxes(folder, "weight", whole, boxes)
        for ranks in (8, BOXES):
            rank = ranks // 2
            read = {}
            with world(rank, ranks):
                mesh = init_device_mesh("cpu", (ranks,))
                wanted = whole.chunk(ranks, placement.dim)[rank]
                local = torch.zeros_like(wanted, memory_format=torch.contiguous_format)
                target = DTensor.from_local(local, mesh, [placement], run_check=False)
                for who in READER:
                    call = reading(who, folder, {"weight": target})
                    before = _bytes_read()
                    call()
                    read[who] = (_bytes_read() - before) / local.nbytes
                    expect(torch.equal(local, wanted), f"{who} read another box")
                    local.zero_()
            yield Bound(
                f"bytes read, {what}, {BOXES:,} saved boxes, 1 rank of {ranks:,}",
                "as a multiple of the bytes wanted",
                read["ours"],
                read["upstream"],
                "x",
                target=_allowed(boxes, local),
            )


def _allowed(boxes: Boxes, local: torch.Tensor) -> float:
    """Bytes that may be read of each wanted byte: 1.05, or whole pages where rows are short."""
    _, sizes = boxes.box(0)
    rows, columns = (min(size, held) for size, held in zip(sizes, local.shape, strict=True))
    run = (columns if columns < sizes[1] else rows * columns) * local.element_size()
    pages = -(-run // 4_096) + 1
    return max(1.05, pages * 4_096 / run)


def _bytes_read() -> int:
    """Bytes that this process has read from files, from the page cache or not."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar"):
            return int(line.split()[1])
    raise RuntimeError("the system does not report the bytes that a process reads")


def _drop_from_page_cache(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
