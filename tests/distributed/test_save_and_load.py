"""Checkpoints saved and loaded in one world, on real files: shardplan against upstream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.checkpoint.metadata import Metadata

from .checkpoints import Held, assert_same_checkpoint, identical, load_as, save_as, without_ids
from .planning import ALL, OURS
from .state_dicts import BUILDERS
from .world import Worlds

Saved = tuple[dict[str, Path], list[Held], list[list[Metadata]]]


@pytest.fixture(scope="module")
def saved(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    """The folder of each implementation, each rank's data, and what dcp.save returned there."""
    done: dict[str, Saved] = {}

    def save(layout: str) -> Saved:
        if layout not in done:
            base = tmp_path_factory.mktemp(layout)
            folders = {who: base / who for who in ALL}
            ranks = worlds[4].run(save_as, layout, folders)
            done[layout] = folders, [rank[0] for rank in ranks], [rank[1] for rank in ranks]
        return done[layout]

    return save


@pytest.mark.parametrize("who", OURS)
@pytest.mark.parametrize("layout", BUILDERS)
def test_same_files(saved: Callable[[str], Saved], layout: str, who: str) -> None:
    folders, _, _ = saved(layout)
    assert_same_checkpoint(folders[who], folders["upstream"])


@pytest.mark.parametrize("layout", BUILDERS)
def test_save_returns_the_same_metadata_on_every_rank(
    saved: Callable[[str], Saved], layout: str
) -> None:
    _, _, returned = saved(layout)
    for upstream, *ours in returned:
        for metadata in ours:
            assert without_ids(metadata) == without_ids(upstream)


@pytest.mark.parametrize("who", ALL)
@pytest.mark.parametrize("layout", BUILDERS)
def test_every_bit_of_both_checkpoints_is_loaded(
    worlds: Worlds, saved: Callable[[str], Saved], layout: str, who: str
) -> None:
    folders, before, _ = saved(layout)
    after = worlds[4].run(load_as, layout, [folders["upstream"], folders["ours"]], who)
    for rank in range(4):
        for loaded in after[rank]:
            assert identical(loaded, before[rank])


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("replicated", {"dedup_save_to_lowest_rank": True}),
        ("uneven", {"flatten_state_dict": False}),
        ("uneven", {"flatten_sharded_tensors": False}),
    ],
)
def test_same_files_with_options(
    worlds: Worlds, tmp_path: Path, layout: str, options: dict[str, Any]
) -> None:
    folders = {who: tmp_path / who for who in ALL}
    worlds[4].run(save_with, layout, folders, options)
    for who in OURS:
        assert_same_checkpoint(folders[who], folders["upstream"])


def save_with(layout: str, folders: dict[str, Path], options: dict[str, Any]) -> None:
    save_as(layout, folders, **options)
