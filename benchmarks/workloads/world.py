"""A simulated world: this process is one rank of many, and no other rank exists."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore


@contextmanager
def world(rank: int, size: int) -> Iterator[None]:
    """Makes this process rank ``rank`` of ``size``; collectives do nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pauses the collector while a large input is created; never use it in a measurement."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
