"""The command line as complete processes, on checkpoints whose metadata upstream wrote."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

import shardplan

from . import coordination, finishing
from .agreement import expect
from .harness import Row, timed
from .measures import Bound
from .workloads import LLAMA3_405B, every_rank, fsdp, llama, with_adam
from .workloads.results import write_results

ROUNDS = 5
RANKS = 1024
COUNTED = "whole process, metadata in the page cache"


def commands(full: bool) -> Iterator[Row]:
    """A small checkpoint, and a 405B checkpoint: 1,024 ranks at full size, otherwise an eighth."""
    with tempfile.TemporaryDirectory() as folder:
        state_dict = {f"layer.{at}.weight": torch.zeros(8, 8) for at in range(100)}
        dcp.save(state_dict, checkpoint_id=folder, no_dist=True)
        ours = _command("inspect", folder)
        program = (
            "import sys, torch.distributed.checkpoint as dcp\n"
            "dcp.FileSystemReader(sys.argv[1]).read_metadata()"
        )
        upstream = _least([sys.executable, "-c", program, folder])
        yield Bound("inspect, 100 entries; torch: read_metadata", COUNTED, ours, upstream, "s", 0.3)

    yield from _deep()
    ranks = RANKS if full else RANKS // 8
    part = ranks / RANKS
    with tempfile.TemporaryDirectory() as folder:
        chunks, upstream = _save(Path(folder), ranks)
        what = f"Llama-3-405B + Adam, {chunks:,} chunks"
        ours = _command("inspect", folder)
        work = f"inspect, {what}; torch: read_metadata alone"
        yield Bound(work, COUNTED, ours, upstream, "s", 3 * part if full else None)
        ours = _command("verify", folder)
        yield Bound(f"verify, {what}", COUNTED, ours, None, "s", 6 * part if full else None)
    ours = _command("simulate", "--model", "llama3-405b", "--mesh", str(RANKS))
    yield Bound(
        f"simulate, Llama-3-405B + Adam, {RANKS:,} ranks", "whole process", ours, None, "s", 5
    )


def _deep() -> Iterator[Row]:
    """The commands that read tensors. A load of the same checkpoint by upstream is beside them."""
    for what, count, elements in (("256 B", 20_000, 64), ("32 MiB", 32, 8 << 20)):
        state_dict = {f"layer.{at}.weight": torch.randn(elements) for at in range(count)}
        with tempfile.TemporaryDirectory() as name:
            folders = [f"{name}/{side}" for side in "ab"]
            for folder in folders:
                dcp.save(state_dict, checkpoint_id=folder, no_dist=True)
            seconds, _ = timed(
                lambda: dcp.load(state_dict, checkpoint_id=folders[0], no_dist=True)  # noqa: B023
            )
            counted = "data in the page cache; torch: one dcp.load"
            work = f"verify --deep, {count:,} tensors of {what}"
            yield Bound(work, counted, _command("verify", "--deep", folders[0]), seconds, "s", None)
            work = f"diff --deep, two equal checkpoints of {count:,} tensors of {what}"
            yield Bound(work, counted, _command("diff", "--deep", *folders), seconds, "s", None)


def _save(folder: Path, ranks: int) -> tuple[int, float]:
    """Saves metadata without data. Returns the number of chunks and upstream's time to read it."""
    plans, results = [], []
    for rank, plan in enumerate(every_rank(with_adam(llama(LLAMA3_405B)), fsdp(ranks))):
        plans.append(coordination.our_bytes(plan))
        results.append(finishing.our_bytes(write_results(plan, rank)))
    _, metadata = coordination.ours(plans, make_chunks=False)
    finishing.ours(results, metadata, folder)
    del plans, results, metadata
    with (folder / ".metadata").open("r+b") as file:
        metadata = pickle.load(file)
        file.seek(0)
        pickle.dump(metadata, file)
        file.truncate()
    ends: dict[str, int] = {}
    for place in metadata.storage_data.values():
        end = place.offset + place.length
        ends[place.relative_path] = max(end, ends.get(place.relative_path, 0))
    for name, end in ends.items():
        with (folder / name).open("wb") as file:
            file.truncate(end)
    chunks = len(metadata.storage_data)
    del metadata
    gc.collect()
    seconds, read = timed(lambda: dcp.FileSystemReader(folder).read_metadata())
    expect(len(read.storage_data) == chunks, "upstream reads another checkpoint")
    our_metadata = shardplan.FileSystemReader(folder).read_metadata()
    expect(len(our_metadata.storage_data) == chunks, "shardplan reads another checkpoint")
    return chunks, seconds


def _command(*arguments: str) -> float:
    return _least([sys.executable, "-m", "shardplan", *arguments])


def _least(command: list[str]) -> float:
    """The least of several times of the complete process, in seconds."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return min(taken)
