"""``shardplan ls`` and the globs of ``inspect --tensor``."""

from __future__ import annotations

from pathlib import Path

import torch.distributed.checkpoint as dcp

from .commands import copied, json_of, run
from .test_verify import edited


def test_every_entry_of_the_upstream_metadata(checkpoint: Path) -> None:
    saved = dcp.FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    entries = json_of("ls", checkpoint)["entries"]
    assert [entry["name"] for entry in entries] == list(saved)
    assert json_of("inspect", checkpoint)["entry_list"] == entries
    by_name = {entry["name"]: entry for entry in entries}
    grid = by_name["model.grid"]
    assert (grid["kind"], grid["dtype"], grid["shape"], grid["bytes"], grid["sharding"]) == (
        "tensor",
        "float32",
        [8, 6],
        192,
        "grid 2 x 2",
    )
    assert by_name["step"]["kind"] == "object"
    assert by_name["step"]["bytes"] == by_name["step"]["stored_bytes"] > 0


def test_one_line_for_each_entry(checkpoint: Path) -> None:
    lines = run("ls", checkpoint).out.splitlines()
    assert len(lines) == 1 + 5
    (grid,) = (line for line in lines if line.endswith("model.grid"))
    assert grid.split() == [
        "[8,",
        "6]",
        "float32",
        "192",
        "bytes",
        "grid",
        "2",
        "x",
        "2",
        "model.grid",
    ]
    (step,) = (line for line in lines if line.endswith("step"))
    assert step.split()[:2] == ["-", "object"]


def test_globs(checkpoint: Path) -> None:
    def names(*glob: str) -> list[str]:
        return [entry["name"] for entry in json_of("ls", checkpoint, *glob)["entries"]]

    assert sorted(names("model.[gr]*")) == ["model.grid", "model.rows"]
    assert names("step") == ["step"]
    done = run("ls", checkpoint, "model.gird")
    assert (done.status, "similar: model.grid" in done.err) == (2, True)
    assert run("ls", checkpoint, "").status == 2


def test_an_existing_name_is_not_used_as_a_glob(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "brackets")

    def edit(metadata: object) -> None:
        saved = metadata.state_dict_metadata  # type: ignore[attr-defined]
        saved["model.[gr]*"] = saved["step"]

    edited(folder, edit)
    assert [one["name"] for one in json_of("ls", folder, "model.[gr]*")["entries"]] == [
        "model.[gr]*"
    ]


def test_inspect_of_a_glob(checkpoint: Path, tmp_path: Path) -> None:
    data = json_of("inspect", checkpoint, "--tensor", "model.[gr]*")
    assert sorted(one["name"] for one in data["tensors"]) == ["model.grid", "model.rows"]
    alone = json_of("inspect", checkpoint, "--tensor", "model.grid")
    assert alone == json_of("inspect", checkpoint, "--tensor", "model.g*")
    assert alone in data["tensors"]
    done = run("inspect", checkpoint, "--tensor", "model.[gr]*")
    assert "model.grid" in done.out
    assert "model.rows" in done.out
    done = run(
        "inspect", checkpoint, "--tensor", "model.[gr]*", "--picture", tmp_path / "boxes.png"
    )
    assert (done.status, "draws one tensor" in done.err) == (2, True)
