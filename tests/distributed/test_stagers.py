"""``async_save`` with a stager of the caller, which saves what was staged: thread and process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

from .checkpoints import assert_same_checkpoint
from .stagers import STAGERS, WAYS, folders_of, save_and_load
from .test_register import NATIVE, UPSTREAM
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
    _, base, _ = saved
    upstream, ours = (folders_of(base, who, stager) for who in WAYS)
    for folder, expected in zip(ours, upstream, strict=True):
        assert_same_checkpoint(folder, expected)


@pytest.mark.parametrize("who", WAYS)
def test_the_right_process_and_planner_plan(saved: Saved, who: str) -> None:
    kind, base, ranks = saved
    for rank, (process, port, _, _) in enumerate(ranks):
        for folder in (folder for name in STAGERS for folder in folders_of(base, who, name)):
            note = folder.with_name(f"{folder.name}: noted by {rank}")
            seen, planned_in, counts, its_port = json.loads(note.read_text())
            assert seen == (NATIVE if who == "registered" else UPSTREAM)
            assert (planned_in == process) == (kind is AsyncCheckpointerType.THREAD)
            assert not counts
            assert its_port == str(port)  # Another one without DCP_USE_PREFIX_STORE.
