"""Every picture is drawn, in both formats, for few and for many ranks."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from shardplan.cli.display import pictures

from .commands import copied, run
from .test_verify import boxes_overlap, edited, file_is_gone, location


def assert_drawn(file: Path) -> None:
    """Asserts that a picture is wide enough to be readable, and has more than one colour."""
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
    assert_drawn(file)


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
    assert_drawn(tmp_path / "damage.png")
    drawn = (tmp_path / "damage.svg").read_text()
    assert ("hole" in drawn) == (damage is file_is_gone)
    assert ("overlap" in drawn) == (damage is boxes_overlap)


@pytest.mark.parametrize("mesh", ["8", "1024", "128x8"])
def test_worlds(checkpoint: Path, tmp_path: Path, mesh: str) -> None:
    simulated, read = tmp_path / "simulated.png", tmp_path / "read.png"
    rule = "S(0),S(1)" if "x" in mesh else "S(0)"
    options = ["--mesh", mesh, "--placements", rule, "--replicate-missing-dims", "--picture"]
    assert run("simulate", "--model", "llama3-8b", *options, simulated).status == 0
    assert run("reshard", checkpoint, *options, read).status == 0
    assert_drawn(simulated)
    assert_drawn(read)


def test_a_picture_that_cannot_be_written(checkpoint: Path, tmp_path: Path) -> None:
    command = ["inspect", checkpoint, "--tensor", "model.grid", "--picture"]
    assert "cannot be written" in run(*command, tmp_path / "absent" / "a.png").err
    assert "a .png or .svg" in run(*command, tmp_path / "a.jpg").err
    assert "--tensor" in run("inspect", checkpoint, "--picture", tmp_path / "a.png").err


def test_missing_and_outside_files_are_marked(checkpoint: Path, tmp_path: Path) -> None:
    """Each has a bar in the colour of damage, whatever its name is."""

    def marked(folder: Path) -> int:
        run("verify", folder, "--picture", tmp_path / "damage.svg")
        drawn = (tmp_path / "damage.svg").read_text()
        assert ("damaged ones marked" in drawn) == ("fill: #c44e52" in drawn)
        # The legend has one too.
        return max(drawn.count("fill: #c44e52") - 1, 0)

    assert marked(checkpoint) == 0
    folder = copied(checkpoint, tmp_path / "gone")
    file_is_gone(folder)
    assert marked(folder) == 1

    def edit(metadata: Any) -> None:
        location(metadata, "model.half").relative_path = "a, b: c.distcp"

    edited(folder, edit)
    assert marked(folder) == 2


def test_names_are_drawn_literally(checkpoint: Path, tmp_path: Path) -> None:
    """A name is not parsed as mathematics, starts no new line, and is cut to fit."""
    for name in ("$\\frac{1}{2}$ x$_2$", "a\nb\x1b[2J", "$", "begin" + "x" * 3_000 + "end", "重み"):
        folder = copied(checkpoint, tmp_path / f"named-{abs(hash(name))}")

        def edit(metadata: Any, name: str = name) -> None:
            saved = metadata.state_dict_metadata
            saved[name] = saved.pop("model.grid")
            location(metadata, "model.half").relative_path = name

        edited(folder, edit)
        for file in ("boxes.png", "boxes.svg"):
            done = run("inspect", folder, "--tensor", name, "--picture", tmp_path / file)
            assert (done.status, done.err) == (0, ""), done
            done = run("verify", folder, "--picture", tmp_path / f"v{file}")
            assert (done.status, done.err) == (1, ""), done
        drawn = (tmp_path / "boxes.svg").read_text(encoding="utf-8")
        (title,) = (each for each in re.findall("<!-- (.*?) -->", drawn) if "[8, 6]" in each)
        assert len(title) < 160
        if "$" in name:
            assert title.startswith(f"{name} [8, 6]")
        if "begin" in name:
            assert re.match(r"beginx+\.\.\.x+end \[8, 6\]", title)


def test_50_000_boxes_in_seconds(tmp_path: Path) -> None:
    """The boxes are of 500 ranks; one patch for each box would take a minute."""
    side, count = 100, 50_000
    boxes = [([at // side, at % side], [1, 1]) for at in range(count)]
    shape = [count // side, side]
    owners = [at % 500 for at in range(count)]
    began = time.process_time()
    panel = pictures.Boxes("w", "all", shape, boxes, owners, "rank", holes=boxes[:20_000])
    pictures.draw(str(tmp_path / "many.png"), [panel])
    assert time.process_time() - began < 10
    assert_drawn(tmp_path / "many.png")
