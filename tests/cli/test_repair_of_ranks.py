"""``shardplan repair`` merges the metadata files of ranks, or says why that cannot be done."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex

from .commands import copied, json_of, run
from .test_repair import actions, edited, listing, refused, repaired


def test_metadata_of_ranks_is_merged(of_each_rank: Path, tmp_path: Path) -> None:
    folder = copied(of_each_rank, tmp_path / "ranks")
    before = listing(folder)
    assert actions(repaired(folder)) == ["merge"]
    after = listing(folder)
    assert after.keys() - before.keys() == {".metadata"}
    assert {name: after[name] for name in before} == before


def test_a_rank_that_died_before_its_rename(of_each_rank: Path, tmp_path: Path) -> None:
    folder = copied(of_each_rank, tmp_path / "ranks")
    (folder / "__2.metadata").rename(folder / "__2.metadata.tmp")
    (folder / ".metadata").write_bytes(b"broken")
    assert actions(repaired(folder)) == ["rename", "keep", "merge"]
    assert (folder / "__2.metadata").exists()


@pytest.mark.parametrize(
    ("gone", "says", "missing"),
    [
        ((1,), "the metadata of rank 1 is missing", [[1, 1]]),
        ((0, 1), "the metadata of ranks 0 to 1 is missing", [[0, 1]]),
        ((3,), "the metadata of rank 3 is missing", [[3, 3]]),
    ],
)
def test_a_missing_rank(
    of_each_rank: Path, tmp_path: Path, gone: tuple[int, ...], says: str, missing: Any
) -> None:
    folder = copied(of_each_rank, tmp_path / "ranks")
    for rank in gone:
        (folder / f"__{rank}.metadata").unlink()
    assert says in refused(folder).out
    assert json_of("repair", folder, status=1)["found"]["missing_ranks"] == missing


def test_the_last_rank_left_nothing(of_each_rank: Path, tmp_path: Path) -> None:
    folder = copied(of_each_rank, tmp_path / "ranks")
    for file in folder.glob("__3*"):
        file.unlink()
    done = refused(folder)
    assert "model.grid: 12 of 48 elements" in done.out
    assert "the files of rank 3 and later ones are missing" in done.out


def test_a_rank_of_nine_digits(of_each_rank: Path, tmp_path: Path) -> None:
    folder = copied(of_each_rank, tmp_path / "ranks")
    (folder / "__999999999.metadata").write_bytes(b"")
    assert "ranks 4 to 999999998" in refused(folder).out


def size_differs(metadata: Metadata) -> None:
    metadata.state_dict_metadata["model.half"].size = torch.Size([6])  # type: ignore[union-attr]


def dtype_differs(metadata: Metadata) -> None:
    properties = metadata.state_dict_metadata["model.half"].properties  # type: ignore[union-attr]
    properties.dtype = torch.float16


def kind_differs(metadata: Metadata) -> None:
    entries = metadata.state_dict_metadata
    entries["model.half"] = entries["step"]
    key = next(key for key in metadata.storage_data if key.fqn == "model.half")
    metadata.storage_data[MetadataIndex("model.half")] = metadata.storage_data.pop(key)


def box_differs(metadata: Metadata) -> None:
    saved = metadata.state_dict_metadata["model.half"]
    chunk = saved.chunks[0]  # type: ignore[union-attr]
    saved.chunks[0] = type(chunk)(chunk.offsets, torch.Size([4]))  # type: ignore[union-attr]


def path_differs(metadata: Metadata) -> None:
    metadata.planner_data["model.half"] = ("other", "half")


@pytest.mark.parametrize(
    "edit", [size_differs, dtype_differs, kind_differs, box_differs, path_differs]
)
def test_ranks_that_disagree(
    of_each_rank: Path, tmp_path: Path, edit: Callable[[Metadata], None]
) -> None:
    folder = copied(of_each_rank, tmp_path / "ranks")
    edited(folder / "__2.metadata", edit)
    out = refused(folder).out
    assert "model.half" in out
    assert "rank 0" in out
    assert "rank 2" in out


def test_ranks_of_two_releases(of_each_rank: Path, tmp_path: Path) -> None:
    folder = copied(of_each_rank, tmp_path / "ranks")
    edited(folder / "__1.metadata", lambda metadata: setattr(metadata, "version", "0.1"))
    assert "rank 0 and '0.1' on rank 1" in refused(folder).out


def test_broken_files_of_ranks(of_each_rank: Path, tmp_path: Path) -> None:
    folder = copied(of_each_rank, tmp_path / "ranks")
    whole = (folder / "__1.metadata").read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 12)):
        (folder / "__1.metadata").write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        assert run("repair", folder, "--dry-run").status in (0, 1)
    (folder / "__1.metadata").write_bytes(whole[:100])
    assert "__1.metadata" in refused(folder).out


def bomb() -> Any:
    """Returns a tuple whose pickle is small, and whose comparison and text are endless."""
    value: Any = ("a", "b")
    for _ in range(60):
        value = (value, value)
    return value


def bomb_in_planner_data(metadata: Metadata) -> None:
    metadata.planner_data["model.half"] = bomb()


def bomb_as_planner_data(metadata: Metadata) -> None:
    metadata.planner_data = bomb()


def bomb_as_version(metadata: Metadata) -> None:
    metadata.version = bomb()


def bomb_in_storage_meta(metadata: Metadata) -> None:
    assert metadata.storage_meta is not None
    metadata.storage_meta.save_id = bomb()


def bomb_in_properties(metadata: Metadata) -> None:
    metadata.state_dict_metadata["model.half"].properties.pin_memory = bomb()  # type: ignore[union-attr]


def bomb_in_locations(metadata: Metadata) -> None:
    for place in metadata.storage_data.values():
        place.transform_descriptors = bomb()


@pytest.mark.parametrize(
    "edit",
    [
        bomb_in_planner_data,
        bomb_as_planner_data,
        bomb_as_version,
        bomb_in_storage_meta,
        bomb_in_properties,
        bomb_in_locations,
    ],
)
def test_values_that_cannot_be_compared(
    of_each_rank: Path, tmp_path: Path, edit: Callable[[Metadata], None]
) -> None:
    folder = copied(of_each_rank, tmp_path / "ranks")
    for rank in range(4):
        edited(folder / f"__{rank}.metadata", edit)
    assert "__1.metadata" in (out := refused(folder).out) or "metadata of rank 1 has" in out


def test_what_several_ranks_have_saved_is_the_lowest_ranks(
    of_each_rank: Path, tmp_path: Path
) -> None:
    folder = copied(of_each_rank, tmp_path / "ranks")
    repaired(folder)
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    for name in ("model.half", "model.scalar", "step"):
        places = [place for key, place in metadata.storage_data.items() if key.fqn == name]
        assert [place.relative_path for place in places] == ["__0_0.distcp"]


def test_upstream_loads_what_was_merged(of_each_rank: Path, tmp_path: Path) -> None:
    folder = copied(of_each_rank, tmp_path / "ranks")
    repaired(folder)
    state = {"model": {"half": torch.zeros(5, dtype=torch.bfloat16)}, "step": 0}
    dcp.load(state, checkpoint_id=folder)
    assert state["step"] == 7
