"""Two processes with a GPU each, for each process group that jobs on GPUs use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from distributed.conftest import worlds
from distributed.world import World

__all__ = ["worlds"]  # for the tests of this folder, too

#: With NCCL alone, DCP sends plans and metadata through GPU memory.
BACKENDS = ("nccl", "cpu:gloo,cuda:nccl")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.device_count() >= 2:
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs two CUDA devices"))


@pytest.fixture(scope="session")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], World]]:
    """``gpus(backend).run(job, ...)`` runs a job on two processes, each with a GPU of its own."""
    # NVLink multicast is of no use to tests, and is not allowed on every machine.
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    worlds: dict[str, World] = {}

    def world(backend: str) -> World:
        if backend not in worlds:
            worlds[backend] = World(2, tmp_path_factory.mktemp("stores"), backend)
        return worlds[backend]

    yield world
    for each in worlds.values():
        each.close()
