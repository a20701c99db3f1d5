"""``async_save`` with a stager of the caller, which saves what was staged: thread and process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

from .stagers import (
    STAGERS,
    WAYS,
    assert_planned_right,
    assert_same_files,
    save_and_load,
)
from .world import Worlds

Saved = tuple[AsyncCheckpointerType, Path, list[Any]]


@pytest.fixture(scope="module", params=list(AsyncCheckpointerType), ids=lambda kind: kind.value)
def saved(request: Any, worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    kind: AsyncCheckpointerType = request.param
    base = tmp_path_factory.mktemp(kind.value)
    return kind, base, worlds[2].run(save_and_load, kind, base, list(STAGERS), timeout=120)


def test_what_was_staged_is_saved(saved: Saved) -> None:
    for _, _, counts, wrong in saved[2]:
        assert wrong == []
        assert not counts


@pytest.mark.parametrize("stager", STAGERS)
def test_same_files(saved: Saved, stager: str) -> None:
    assert_same_files(saved[1], stager)


@pytest.mark.parametrize("who", WAYS)
def test_the_right_process_and_planner_plan(saved: Saved, who: str) -> None:
    kind, base, ranks = saved
    assert_planned_right(kind, base, STAGERS, who, ranks)
