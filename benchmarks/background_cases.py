"""Rows of a training loop during ``dcp.async_save``, which writes from another thread."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed.checkpoint as dcp

import shardplan

from .harness import Row
from .measures import Bound

SMALL = 20_000
LARGE = 32
WHO = ("ours", "upstream")
ALLOWED = 1.05
SAID = {"median": "median", "mean": "mean", "slow": "the slowest of a hundred"}


@dataclass(frozen=True)
class Steps:
    """Seconds of the steps of a loop, and of all of it."""

    taken: list[float]
    whole: float

    @property
    def median(self) -> float:
        return statistics.median(self.taken)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.taken)

    @property
    def slow(self) -> float:
        """The time that 99 of 100 steps do not take."""
        return statistics.quantiles(self.taken, n=100)[-1]


def background(full: bool) -> Iterator[Row]:
    """20,000 tensors of 256 B and 32 of 32 MiB, saved while a loop multiplies matrices."""
    rounds = 5 if full else 3
    alone, during = {}, {}
    for who in WHO:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            alone[who], during[who] = pool.apply(_measure, (who, rounds))
    device = "CUDA" if torch.cuda.is_available() else "CPU"
    counted = f"{SMALL:,} tensors of 256 B and {LARGE} of 32 MiB on {device}"
    for name in ("median", "mean", "slow"):
        ours, upstream = (getattr(during[who], name) / getattr(alone[who], name) for who in WHO)
        yield Bound(
            f"a step of training during async_save, {SAID[name]}",
            f"as a multiple of one without a save; {counted}",
            ours,
            upstream,
            "x",
            target=ALLOWED if name == "median" else None,
        )
    ours, upstream = (during[who].whole for who in WHO)
    yield Bound("the save in the background", "", ours, upstream, "s", target=None)


def _measure(who: str, rounds: int) -> tuple[Steps, Steps]:
    """Returns steps without a save, and those of the round with the shortest save."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if who == "ours":
        shardplan.register()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensors = {f"small.{at}": torch.randn(64, device=device) for at in range(SMALL)}
    tensors |= {f"large.{at}": torch.randn(1 << 23, device=device) for at in range(LARGE)}
    step = _step(device)
    _until(lambda: False, step, seconds=1)
    alone = _until(lambda: False, step, seconds=3)
    saves = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            done = dcp.async_save(tensors, checkpoint_id=folder, no_dist=True).done  # type: ignore[union-attr]
            saves.append(_until(done, step, seconds=120))
    return alone, min(saves, key=lambda steps: steps.whole)


def _step(device: str) -> Callable[[], None]:
    matrix = torch.randn(256, 256, device=device)

    def step() -> None:
        product = matrix
        for _ in range(20):
            product = (product @ matrix).tanh()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def _until(done: Callable[[], bool], step: Callable[[], None], seconds: float) -> Steps:
    began = time.perf_counter()
    taken = []
    while not done() and time.perf_counter() - began < seconds:
        before = time.perf_counter()
        step()
        taken.append(time.perf_counter() - before)
    return Steps(taken, time.perf_counter() - began)
