"""Every picture is drawn, in both formats, of few ranks and of many."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.image import imread

from .commands import copied, run
from .test_verify import boxes_overlap, file_is_gone


def looked_at(file: Path) -> None:
    """A picture is wide enough to be read and is not of one colour."""
    pixels = imread(file)
    assert pixels.shape[0] > 300
    assert pixels.shape[1] > 900
    colours = {tuple(pixel) for pixel in (pixels[::7, ::7].reshape(-1, 4) * 255).astype(int)}
    assert len(colours) > 5


@pytest.mark.parametrize("name", ["model.grid", "model.rows", "model.half", "model.scalar"])
def test_boxes_of_a_tensor(checkpoint: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "boxes.png"
    done = run("inspect", checkpoint, "--tensor", name, "--picture", file)
    if name == "model.scalar":
        assert (done.status, "no dim" in done.err) == (2, True)
        return
    assert done.status == 0
    looked_at(file)


def test_svg_names_the_ranks(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "boxes.svg"
    assert run("inspect", checkpoint, "--tensor", "model.grid", "--picture", file).status == 0
    assert "rank 3" in file.read_text()


@pytest.mark.parametrize("damage", [None, file_is_gone, boxes_overlap])
def test_damage(checkpoint: Path, tmp_path: Path, damage: object) -> None:
    folder = copied(checkpoint, tmp_path / "damaged")
    if callable(damage):
        damage(folder)
    for file in (tmp_path / "damage.png", tmp_path / "damage.svg"):
        assert run("verify", folder, "--picture", file).status == (0 if damage is None else 1)
    looked_at(tmp_path / "damage.png")
    drawn = (tmp_path / "damage.svg").read_text()
    assert ("hole" in drawn) == (damage is file_is_gone)
    assert ("overlap" in drawn) == (damage is boxes_overlap)


@pytest.mark.parametrize("mesh", ["8", "1024", "128x8"])
def test_worlds(checkpoint: Path, tmp_path: Path, mesh: str) -> None:
    simulated, read = tmp_path / "simulated.png", tmp_path / "read.png"
    rule = "S(0),S(1)" if "x" in mesh else "S(0)"
    options = ["--mesh", mesh, "--placements", rule, "--picture"]
    assert run("simulate", "--model", "llama3-8b", *options, simulated).status == 0
    assert run("reshard", checkpoint, *options, read).status == 0
    looked_at(simulated)
    looked_at(read)


def test_where_it_cannot_be_written(checkpoint: Path, tmp_path: Path) -> None:
    command = ["inspect", checkpoint, "--tensor", "model.grid", "--picture"]
    assert "cannot be written" in run(*command, tmp_path / "absent" / "a.png").err
    assert "a .png or an .svg" in run(*command, tmp_path / "a.jpg").err
    assert "--tensor" in run("inspect", checkpoint, "--picture", tmp_path / "a.png").err
