"""Loads on fewer processes and on another mesh than the checkpoint was saved on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .checkpoints import Held, identical, load_as, save_as, whole
from .planning import ALL
from .state_dicts import ON_A_GRID
from .world import Worlds

# The state dict that four processes save, the one that is loaded, and by how many processes.
MOVES = [
    ("fsdp", 3, "fsdp"),
    ("fsdp", 2, "fsdp"),
    ("fsdp", 4, "fsdp_tp"),
    ("fsdp", 4, "hsdp"),
    ("fsdp_tp", 4, "fsdp"),
    ("fsdp_tp", 3, "fsdp"),
    ("fsdp_tp", 2, "fsdp_tp"),
    ("hsdp", 2, "fsdp"),
    ("uneven", 3, "uneven"),
    ("uneven", 2, "uneven"),
    ("nested", 3, "nested"),
    ("replicated", 2, "replicated"),
]


@pytest.fixture(scope="module")
def saved(
    worlds: Worlds, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[list[Path], Held]]:
    """A checkpoint of each implementation, and all data of the four processes."""
    done: dict[str, tuple[list[Path], Held]] = {}

    def save(layout: str) -> tuple[list[Path], Held]:
        if layout not in done:
            base = tmp_path_factory.mktemp(layout)
            folders = {who: base / who for who in ("upstream", "ours")}
            ranks = worlds[4].run(save_as, layout, folders)
            done[layout] = list(folders.values()), whole([rank[0] for rank in ranks])
        return done[layout]

    return save


@pytest.mark.parametrize("who", ALL)
@pytest.mark.parametrize(("layout", "size", "loaded_as"), MOVES)
def test_every_bit_is_loaded(
    worlds: Worlds,
    saved: Callable[[str], tuple[list[Path], Held]],
    layout: str,
    size: int,
    loaded_as: str,
    who: str,
) -> None:
    folders, before = saved(layout)
    asked_for = set(before) - (ON_A_GRID if size % 2 else set())
    ranks = worlds[size].run(load_as, loaded_as, folders, who)
    for i in range(len(folders)):
        after = whole([rank[i] for rank in ranks])
        assert set(after) == asked_for
        for path, value in after.items():
            expected = before[path]
            if isinstance(expected, list):  # An object is the same in each process.
                expected = expected[: len(ranks)]
            assert identical(value, expected), path
