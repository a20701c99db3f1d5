"""``shardplan inspect`` shows what upstream reads from the same checkpoint."""

from __future__ import annotations

import pickle
from math import prod
from pathlib import Path

import pytest
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import MetadataIndex, TensorStorageMetadata

from .commands import copied, json_of, on_a_terminal, run


def test_totals_equal_those_of_the_upstream_metadata(checkpoint: Path) -> None:
    metadata = dcp.FileSystemReader(checkpoint).read_metadata()
    saved = metadata.state_dict_metadata
    tensors = {name: one for name, one in saved.items() if isinstance(one, TensorStorageMetadata)}
    data = json_of("inspect", checkpoint)
    assert (data["entries"], data["tensors"]) == (len(saved), len(tensors))
    assert data["objects"] == len(saved) - len(tensors)
    assert data["chunks"] == sum(len(one.chunks) for one in tensors.values())
    assert data["elements"] == sum(prod(one.size) for one in tensors.values())
    assert data["tensor_bytes"] == sum(
        prod(one.size) * one.properties.dtype.itemsize for one in tensors.values()
    )
    assert data["stored_bytes"] == sum(
        location.length for location in metadata.storage_data.values()
    )
    assert data["files"]["count"] == data["ranks"]["count"] == 4
    assert data["version"] == metadata.version
    assert data["sharding"] == {"whole": 2, "grid 2 x 2": 1, "dim 0 in 4": 1}
    assert data["dtypes"]["bfloat16"] == {"tensors": 1, "elements": 5, "bytes": 10}
    assert [one["name"] for one in data["largest"]][:2] == ["model.grid", "model.rows"]


def test_boxes_of_a_tensor_and_their_locations(checkpoint: Path) -> None:
    metadata = dcp.FileSystemReader(checkpoint).read_metadata()
    for name in ("model.grid", "model.rows", "model.scalar"):
        saved = metadata.state_dict_metadata[name]
        boxes = json_of("inspect", checkpoint, "--tensor", name)["boxes"]
        assert [(box["offsets"], box["sizes"]) for box in boxes] == [
            (list(chunk.offsets), list(chunk.sizes))
            for chunk in saved.chunks  # type: ignore[union-attr]
        ]
        for box in boxes:
            location = metadata.storage_data[MetadataIndex(name, box["offsets"])]
            assert (box["file"], box["begin"], box["bytes"]) == (
                location.relative_path,
                location.offset,
                location.length,
            )


def test_an_object_has_a_location_and_no_box(checkpoint: Path) -> None:
    data = json_of("inspect", checkpoint, "--tensor", "step")
    assert data["kind"] == "object"
    assert data["boxes"][0]["file"].endswith(".distcp")
    assert run("inspect", checkpoint, "--tensor", "step").status == 0


def test_similar_names_are_suggested_for_a_missing_one(checkpoint: Path) -> None:
    done = run("inspect", checkpoint, "--tensor", "model.gird")
    assert done.status == 2
    assert "similar: model.grid" in done.err


def test_text_output(checkpoint: Path) -> None:
    done = run("inspect", checkpoint)
    assert "\x1b" not in done.out
    for message in ("5: 4 tensors, 1 object\n", "grid 2 x 2", "bfloat16", "model.rows"):
        assert message in done.out
    tensor = run("inspect", checkpoint, "--tensor", "model.grid", "--rows", 1)
    assert "[0:4, 0:3]" in tensor.out
    assert "and 3 more boxes" in tensor.out


def test_colour_only_on_a_terminal(checkpoint: Path) -> None:
    seen = on_a_terminal("inspect", checkpoint)
    assert "\x1b[1m" in seen
    assert "─" in seen
    assert "grid 2 x 2" in seen


@pytest.mark.parametrize(
    "command", [("inspect",), ("verify",), ("verify", "--deep"), ("reshard", "--mesh", "3")]
)
def test_torch_is_not_imported(checkpoint: Path, command: tuple[str, ...]) -> None:
    watch = "import atexit, sys\natexit.register(lambda: print('torch' in sys.modules))"
    done = run(command[0], checkpoint, *command[1:], before=watch)
    assert done.status == 0
    assert done.out.endswith("False\n")


def test_torch_need_not_be_installed(checkpoint: Path) -> None:
    done = run("inspect", checkpoint, before="import sys; sys.modules['torch'] = None")
    assert done.status == 0


def test_without_the_libraries_for_terminals(checkpoint: Path, tmp_path: Path) -> None:
    gone = "import sys; sys.modules['rich'] = sys.modules['matplotlib'] = None"
    assert run("inspect", checkpoint, before=gone).status == 0
    done = run(
        "inspect",
        checkpoint,
        "--tensor",
        "model.grid",
        "--picture",
        tmp_path / "a.png",
        before=gone,
    )
    assert done.status == 2
    assert "pip install 'shardplan[cli]'" in done.err


def test_url_of_a_file_system(checkpoint: Path) -> None:
    assert json_of("inspect", f"file://{checkpoint}")["entries"] == 5
    assert (
        "fsspec"
        in run(
            "inspect", f"file://{checkpoint}", before="import sys; sys.modules['fsspec'] = None"
        ).err
    )
    assert run("inspect", "nothing://here").status == 2


def test_metadata_of_one_rank(of_each_rank: Path) -> None:
    done = run("inspect", of_each_rank)
    assert done.status == 2
    assert "__0.metadata" in done.err
    assert json_of("inspect", of_each_rank / "__1.metadata")["entries"] == 5


def test_attributes_in_a_file_replace_nothing(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "attributes")
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    for name in ("checkpoint", "metadata_file", "metadata_bytes", "entries", "entry_list"):
        setattr(metadata, name, "other")
    metadata.version = "1\nsound: all"
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    data = json_of("inspect", folder)
    assert (data["checkpoint"], data["metadata_file"]) == (str(folder), ".metadata")
    assert data["metadata_bytes"] == (folder / ".metadata").stat().st_size
    assert len(data["entry_list"]) == data["entries"] == 5
    done = run("inspect", folder)
    assert (done.status, r"1\nsound: all" in done.out) == (0, True)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


@pytest.mark.parametrize("command", ["inspect", "verify", "diff", "reshard", "simulate"])
def test_a_file_with_other_globals_is_rejected(
    checkpoint: Path, tmp_path: Path, command: str
) -> None:
    folder = copied(checkpoint, tmp_path / "bomb")
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    metadata.planner_data = Bomb()
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    arguments = {
        "diff": [checkpoint, folder],
        "reshard": [folder, "--mesh", "2"],
        "simulate": ["--from", folder, "--mesh", "2"],
    }.get(command, [folder])
    done = run(command, *arguments)
    assert done.status == 2
    assert "executed" not in done.out
    assert f"{folder}/.metadata was not read" in done.err
    assert "builtins.print" in done.err


def broken(folder: Path, kind: str) -> None:
    file = folder / ".metadata"
    data = file.read_bytes()
    if kind == "gone":
        file.unlink()
    elif kind == "unfinished":
        file.rename(folder / ".metadata.tmp")
    elif kind == "no checkpoint":
        for each in folder.iterdir():
            each.unlink()
    else:
        file.write_bytes(
            {
                "cut": data[: len(data) // 2],
                "empty": b"",
                "text": b"hello",
                "list": pickle.dumps([]),
            }[kind]
        )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("gone", "the save did not finish"),
        ("unfinished", ".metadata.tmp and no .metadata"),
        ("no checkpoint", "has no .metadata"),
        ("cut", "was not read"),
        ("empty", "was not read"),
        ("text", "was not read"),
        ("list", "has no Metadata"),
    ],
)
def test_unreadable_files_are_reported_in_one_line(
    checkpoint: Path, tmp_path: Path, kind: str, message: str
) -> None:
    folder = copied(checkpoint, tmp_path / "broken")
    broken(folder, kind)
    done = run("inspect", folder)
    assert done.status == 2
    assert message in done.err
    assert str(folder) in done.err
    assert done.err.count("\n") == 1


def test_escape_codes_of_a_name_do_not_reach_the_terminal(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "escapes")
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    saved = metadata.state_dict_metadata
    saved["\x1b[2Jgone\x07"] = saved.pop("model.grid")
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    for command in ("inspect", "verify"):
        done = run(command, folder)
        assert "gone" in done.out
        assert "\x1b[2J" not in done.out
        assert "\x07" not in done.out
