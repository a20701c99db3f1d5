"""``shardplan diff --deep`` reports damaged and unreadable entries, and compares the others."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distributed.state_dicts import numbers
from shardplan.cli.checkpoint.location import Folder
from shardplan.cli.comparison import checkpoints as compare

from .commands import copied, json_of
from .test_diff_deep import compared, save
from .test_verify import DAMAGES, Lost, lost_of


@pytest.mark.parametrize(
    ("damage", "kind", "lost"), DAMAGES, ids=[one.__name__ for one, *_ in DAMAGES]
)
def test_all_damage_is_reported(
    checkpoint: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    kind: str,
    lost: Lost,
) -> None:
    """An entry that ``verify`` reports as lost is not compared, and no compared entry differs."""
    folder = copied(checkpoint, tmp_path / "damaged")
    lost = lost_of(lost, checkpoint)
    damage(folder)
    for a, b in ((folder, checkpoint), (checkpoint, folder)):
        data = json_of("diff", a, b, "--deep", status=1)
        assert not any(one["differing"] for one in data["values"])
        short = {one["name"]: one["elements"] - one["compared"] for one in data["values"]}
        objects = {one["name"] for one in data["objects"] if one["not_compared"]}
        if kind == "boxes" and not lost:
            continue
        assert {name: count for name, count in short.items() if count} | dict.fromkeys(
            objects, 1
        ) == (lost or {"model.rows": short["model.rows"]})


def test_no_byte_of_a_part_causes_a_crash(tmp_path: Path) -> None:
    """A flipped bit is reported as damage, or makes no difference."""
    a, b = save(tmp_path / "a", w=numbers(5)), save(tmp_path / "b", w=numbers(5))
    file = b / "__0_0.distcp"
    whole = file.read_bytes()
    clean = 0
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << (at % 8)
        file.write_bytes(data)
        w = compared(a, b, 1 << 30)["w"]
        assert w["differing"] == 0, at
        assert (w["compared"] == 5) == (w["not_compared"] is None), at
        clean += w["compared"] == 5
    assert 0 < clean < len(whole)


class Failing(io.BytesIO):
    """A file whose reads fail after a number of reads, with the file system's own error."""

    left = 0

    def read(self, count: int | None = -1, /) -> bytes:
        Failing.left -= 1
        if Failing.left < 0:
            raise ValueError("the connection is lost")
        return super().read(count)


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_a_failing_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    a = save(tmp_path / "a", w=numbers(3), step=7)
    b = save(tmp_path / "b", w=numbers(3), step=8)
    monkeypatch.setattr(compare, "_MIN_MEMORY", 0)

    def opened(self: Folder, name: str) -> Any:
        data = (Path(self.path) / name).read_bytes()
        return Failing(data) if name.endswith(".distcp") else io.BytesIO(data)

    monkeypatch.setattr(Folder, "open", opened)
    for reads in range(1000):
        Failing.left = reads
        found = compared(a, b, limit)
        failed = Failing.left < 0
        assert any(one["damaged"] for one in found.values()) == failed
        assert not found["w"]["differing"]
        assert ("the connection is lost" in str(found)) == failed
        if not failed:
            break
    assert 6 < reads < 999
    assert found["step"]["differs"]
