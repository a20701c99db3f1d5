"""``async_save`` of a state on two GPUs, which changes as soon as it is staged.

Staging copies to memory that is pinned, shared, kept between saves, or none of these, and the save
runs in a thread or a process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

from distributed.stagers import (
    PINNED_STAGERS,
    STAGERS,
    WAYS,
    assert_planned_right,
    assert_same_files,
    save_and_load,
)
from distributed.world import World

# The first two copy on the GPU, whose memory DCP does not pass to its process. The others pin
# memory that is not shared, and Python moves it to shared memory for the process. With torch 2.11,
# later copies of the rank to the CPU then failed ("invalid argument"), probably because the old
# addresses stay registered as pinned.
NOT_FOR_A_PROCESS = (
    "counting",
    "in a future",
    "pinned",
    "pinned, not waited for",
    "pinned, async",
)
ALL_STAGERS = [*STAGERS, *PINNED_STAGERS]
Saved = tuple[AsyncCheckpointerType, list[str], Path, list[Any]]


@pytest.fixture(scope="module", params=list(AsyncCheckpointerType), ids=lambda kind: kind.value)
def saved(
    request: Any, gpus: Callable[[str], World], tmp_path_factory: pytest.TempPathFactory
) -> Saved:
    kind: AsyncCheckpointerType = request.param
    base = tmp_path_factory.mktemp(kind.value)
    stagers = ALL_STAGERS
    if kind is AsyncCheckpointerType.PROCESS:
        stagers = [name for name in stagers if name not in NOT_FOR_A_PROCESS]
    world = gpus("cpu:gloo,cuda:nccl")  # async_save requires a backend for the CPU.
    return kind, stagers, base, world.run(save_and_load, kind, base, stagers, timeout=180)


def test_what_was_staged_is_saved(saved: Saved) -> None:
    for _, _, counts, wrong in saved[3]:
        assert wrong == []
        assert not counts


def test_same_files(saved: Saved) -> None:
    _, stagers, base, _ = saved
    for stager in stagers:
        assert_same_files(base, stager)


@pytest.mark.parametrize("who", WAYS)
def test_the_right_process_and_planner_plan(saved: Saved, who: str) -> None:
    kind, stagers, base, ranks = saved
    assert_planned_right(kind, base, stagers, who, ranks)
