"""``shardplan verify`` finds every kind of damage, and reports what is lost."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import SerializationFormat
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex

from distributed.world import Worlds

from .commands import copied, json_of, run
from .conftest import state


def edited(folder: Path, edit: Callable[[Metadata], None]) -> None:
    file = folder / ".metadata"
    metadata = pickle.loads(file.read_bytes())
    edit(metadata)
    file.write_bytes(pickle.dumps(metadata))


def location(metadata: Metadata, name: str, at: int = 0) -> Any:
    return [one for key, one in metadata.storage_data.items() if key.fqn == name][at]


def file_is_gone(folder: Path) -> None:
    (folder / "__3_0.distcp").unlink()


def last_part(folder: Path, file: str) -> tuple[str, int]:
    """Returns the entry whose part is the last in a file, and the number of its elements there.

    The order of parts in a file depends on the machine and on torch.
    """
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    of_file = {
        at.offset: key
        for key, at in metadata.storage_data.items()
        if at.relative_path == file and at.length
    }
    key = of_file[max(of_file)]
    saved = metadata.state_dict_metadata[key.fqn]
    sizes = [one.sizes for one in getattr(saved, "chunks", ()) if one.offsets == key.offset]
    return key.fqn, sizes[0].numel() if sizes else 1


def file_is_cut(folder: Path) -> None:
    file = folder / "__3_0.distcp"
    os.truncate(file, file.stat().st_size - 100)


def no_location(folder: Path) -> None:
    def edit(metadata: Metadata) -> None:
        key = next(key for key in metadata.storage_data if key.fqn == "model.grid")
        del metadata.storage_data[key]

    edited(folder, edit)


def object_has_no_location(folder: Path) -> None:
    edited(folder, lambda metadata: metadata.storage_data.pop(MetadataIndex("step")))


def box_is_missing(folder: Path) -> None:
    edited(folder, lambda metadata: metadata.state_dict_metadata["model.grid"].chunks.pop(1))


def boxes_overlap(folder: Path) -> None:
    def edit(metadata: Metadata) -> None:
        chunks = metadata.state_dict_metadata["model.rows"].chunks  # type: ignore[union-attr]
        chunks[1] = ChunkStorageMetadata(chunks[1].offsets, torch.Size([3, 3]))

    edited(folder, edit)


def box_is_out_of_bounds(folder: Path) -> None:
    def edit(metadata: Metadata) -> None:
        metadata.state_dict_metadata["model.rows"].size = torch.Size([6, 3])  # type: ignore[union-attr]

    edited(folder, edit)


def bytes_are_shared(folder: Path) -> None:
    def edit(metadata: Metadata) -> None:
        a, b = location(metadata, "model.grid"), location(metadata, "model.rows")
        b.relative_path, b.offset, b.length = a.relative_path, a.offset + 1, 10

    edited(folder, edit)


def file_is_outside(folder: Path) -> None:
    def edit(metadata: Metadata) -> None:
        location(metadata, "model.half").relative_path = "../outside"

    edited(folder, edit)


def negative_location(folder: Path) -> None:
    def edit(metadata: Metadata) -> None:
        location(metadata, "model.half").offset = -5

    edited(folder, edit)


def far_location(folder: Path) -> None:
    def edit(metadata: Metadata) -> None:
        location(metadata, "model.half").offset = 2**63 - 2

    edited(folder, edit)


def scalar_has_no_box(folder: Path) -> None:
    edited(folder, lambda metadata: metadata.state_dict_metadata["model.scalar"].chunks.clear())


# The lost elements of each entry, or the file whose last part is lost.
Lost = dict[str, int] | str


def lost_of(lost: Lost, checkpoint: Path) -> dict[str, int]:
    return dict([last_part(checkpoint, lost)]) if isinstance(lost, str) else lost


# The damage, its name in the report of verify, and what is lost.
DAMAGES: list[tuple[Callable[[Path], None], str, Lost]] = [
    (file_is_gone, "no file", {"model.grid": 12, "model.rows": 3, "step": 1}),
    (file_is_cut, "short file", "__3_0.distcp"),
    (no_location, "no place", {"model.grid": 12}),
    (object_has_no_location, "no place", {"step": 1}),
    (box_is_missing, "boxes", {"model.grid": 12}),
    (boxes_overlap, "boxes", {}),
    (box_is_out_of_bounds, "boxes", {}),
    (bytes_are_shared, "shared_bytes", {}),
    (file_is_outside, "outside", {"model.half": 5}),
    (negative_location, "short file", {"model.half": 5}),
    (far_location, "short file", {"model.half": 5}),
    (scalar_has_no_box, "no place", {"model.scalar": 1}),
]


@pytest.mark.parametrize("deep", [False, True])
def test_healthy(checkpoint: Path, deep: bool) -> None:
    data = json_of("verify", checkpoint, *(["--deep"] if deep else []))
    assert data["sound"]
    assert data["lost"] == []
    assert data["loadable"] == data["entries"] == 5
    done = run("verify", checkpoint)
    assert done.status == 0
    assert "sound: 5 entries" in done.out


@pytest.mark.parametrize(
    ("damage", "kind", "lost"), DAMAGES, ids=[damage.__name__ for damage, *_ in DAMAGES]
)
def test_damage(
    checkpoint: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    kind: str,
    lost: Lost,
) -> None:
    folder = copied(checkpoint, tmp_path / "damaged")
    lost = lost_of(lost, checkpoint)
    damage(folder)
    data = json_of("verify", folder, status=1)
    assert not data["sound"]
    found = set(data["problems"])
    found |= {"boxes"} if data["boxes"]["bad"] else set()
    found |= {"shared_bytes"} if data["shared_bytes"] else set()
    assert found == {kind}
    assert {one["name"]: one["elements"] for one in data["lost"]} == lost
    assert data["loadable"] == 5 - len(lost)
    done = run("verify", folder)
    assert done.status == 1
    assert all(name in done.out for name in lost)


def loads(checkpoint: Path, name: str) -> bool:
    """Returns whether upstream loads an entry."""
    metadata = dcp.FileSystemReader(checkpoint).read_metadata()
    saved: Any = metadata.state_dict_metadata[name]
    wanted = torch.zeros(saved.size, dtype=saved.properties.dtype)
    try:
        dcp.load({name: wanted}, checkpoint_id=checkpoint, no_dist=True)
    except CheckpointException:
        return False
    return True


def test_only_loadable_entries_load(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "damaged")
    file_is_gone(folder)
    lost = {one["name"] for one in json_of("verify", folder, status=1)["lost"]}
    for name in ("model.grid", "model.rows", "model.half", "model.scalar"):
        assert loads(folder, name) == (name not in lost), name


def test_lost_regions_are_boxes(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "damaged")
    file_is_gone(folder)
    lost = {one["name"]: one for one in json_of("verify", folder, status=1)["lost"]}
    assert lost["model.grid"]["regions"] == [{"offsets": [4, 3], "sizes": [4, 3]}]
    assert "model.grid: 12 of 48 elements: [4:8, 3:6]" in run("verify", folder).out


def flipped(folder: Path, name: str, of: bytes, ahead: int) -> None:
    """Flips one bit of a part, at an offset after a marker."""
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    at = location(metadata, name)
    file = folder / at.relative_path
    data = bytearray(file.read_bytes())
    found = data.index(of, at.offset, at.offset + at.length)
    data[found + ahead] ^= 1
    file.write_bytes(data)


def test_deep_finds_a_bit_that_changed(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "flipped")
    tensor = torch.arange(48.0).add(1000).view(8, 6)[:4, :3].contiguous()
    flipped(folder, "model.grid", tensor.numpy().tobytes(), 5)
    assert json_of("verify", folder)["sound"]
    data = json_of("verify", folder, "--deep", status=1)
    (found,) = data["problems"]["checksum"]
    assert (found["name"], found["offsets"], found["sizes"]) == ("model.grid", [0, 0], [4, 3])
    assert {one["name"]: one["elements"] for one in data["lost"]} == {"model.grid": 12}


def test_deep_finds_an_object_that_changed(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "flipped")
    flipped(folder, "step", b"K\x07.", 1)
    data = json_of("verify", folder, "--deep", status=1)
    assert [one["name"] for one in data["lost"]] == ["step"]


@pytest.mark.parametrize(
    ("kind", "edit"),
    [
        ("shape", lambda saved: saved.chunks.sort(key=lambda chunk: -chunk.offsets[0])),
        ("dtype", lambda saved: setattr(saved.properties, "dtype", torch.int32)),
    ],
)
def test_deep_compares_with_the_metadata(
    checkpoint: Path, tmp_path: Path, kind: str, edit: Callable[[Any], None]
) -> None:
    folder = copied(checkpoint, tmp_path / "other")
    if kind == "dtype":
        edited(folder, lambda metadata: edit(metadata.state_dict_metadata["model.grid"]))
    else:

        def swap(metadata: Metadata) -> None:
            saved: Any = metadata.state_dict_metadata["model.rows"]
            saved.size = torch.Size([7, 4])
            saved.chunks = [
                ChunkStorageMetadata(chunk.offsets, torch.Size([chunk.sizes[0], 4]))
                for chunk in saved.chunks
            ]

        edited(folder, swap)
    data = json_of("verify", folder, "--deep", status=1)
    assert set(data["problems"]) == {kind}


def test_the_upstream_reader_does_not_read_safetensors(worlds: Worlds, tmp_path: Path) -> None:
    folder = tmp_path / "safe"
    worlds[4].run(save_as_safetensors, folder)
    assert not loads(folder, "model.grid")
    data = json_of("verify", folder, "--deep", status=1)
    assert "safetensors" in data["problems"]["unreadable"][0]["detail"]


def save_as_safetensors(folder: Path) -> None:
    writer = dcp.FileSystemWriter(folder, serialization_format=SerializationFormat.SAFETENSORS)
    dcp.save({"model": state()["model"]}, storage_writer=writer)


class Executed:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


def test_deep_calls_no_global_of_a_part(checkpoint: Path, tmp_path: Path) -> None:
    """The bytes of a tensor are replaced by a pickle that would call a function."""
    folder = copied(checkpoint, tmp_path / "bomb")
    torch.save(Executed(), folder / "bomb")
    size = (folder / "bomb").stat().st_size

    def edit(metadata: Metadata) -> None:
        at = location(metadata, "model.half")
        at.relative_path, at.offset, at.length = "bomb", 0, size

    edited(folder, edit)
    done = run("verify", folder, "--deep")
    assert done.status == 1
    assert "executed" not in done.out
    assert "print, which a plain tensor does not use" in done.out


def test_unknown_entries_are_reported(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "unusual")

    def edit(metadata: Metadata) -> None:
        metadata.state_dict_metadata["unusual"] = None  # type: ignore[assignment]
        metadata.storage_data["unusual"] = ("nowhere", 3)

    edited(folder, edit)
    data = json_of("verify", folder, status=1)
    assert (data["unknown_entries"], data["unknown_places"]) == (1, 1)
    assert (data["loadable"], data["lost"]) == (5, [])
    assert "1 entry has an unsupported type" in run("verify", folder).out
    assert json_of("inspect", folder)["unknown"] == 1


def test_metadata_of_one_rank_needs_no_other_rank(of_each_rank: Path) -> None:
    data = json_of("verify", of_each_rank / "__1.metadata", "--deep")
    assert data["sound"]
    assert not data["whole_checkpoint"]


def test_transformed_parts_are_read_but_not_decoded(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "transformed")

    def edit(metadata: Metadata) -> None:
        location(metadata, "model.half").transform_descriptors = ["stream.zstd"]

    edited(folder, edit)
    assert json_of("verify", folder, "--deep")["sound"]
    assert json_of("inspect", folder, "--tensor", "model.half")["boxes"][0]["transformed"]


def test_url(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "damaged")
    assert json_of("verify", f"file://{folder}", "--deep")["sound"]
    file_is_gone(folder)
    assert set(json_of("verify", f"file://{folder}", status=1)["problems"]) == {"no file"}


def test_every_relevant_bit_of_a_part_is_checked(checkpoint: Path, tmp_path: Path) -> None:
    """A flipped bit is detected, or the part still holds the same tensor."""
    folder = copied(checkpoint, tmp_path / "flipped")
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    at = location(metadata, "model.half")
    file = folder / at.relative_path
    whole = file.read_bytes()
    expected = torch.zeros(5, dtype=torch.bfloat16)
    dcp.load({"model.half": expected}, checkpoint_id=folder, no_dist=True)
    from shardplan.cli.checkpoint.deep import read_deeply
    from shardplan.cli.checkpoint.entries import entries_of
    from shardplan.cli.checkpoint.location import open_checkpoint

    opened = open_checkpoint(str(folder))
    entries = entries_of(opened.checkpoint)
    part = next(entry.at for entry in entries if entry.name == "model.half"), 0
    noticed = unnoticed = 0
    for byte in range(at.offset, at.offset + at.length, 3):
        data = bytearray(whole)
        data[byte] ^= 0x10
        file.write_bytes(data)
        if not list(read_deeply(opened, entries, [part])):
            unnoticed += 1
            assert loads(folder, "model.half"), byte
            got = torch.zeros(5, dtype=torch.bfloat16)
            dcp.load({"model.half": got}, checkpoint_id=folder, no_dist=True)
            assert torch.equal(got, expected), byte
        else:
            noticed += 1
    assert noticed > unnoticed / 2 > 0


def test_every_finding_names_its_file(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "damaged")
    file_is_cut(folder)
    object_has_no_location(folder)
    name, _ = last_part(checkpoint, "__3_0.distcp")
    assert name != "step"
    files = {one["name"]: one["file"] for one in found_in(folder)}
    assert files == {name: "__3_0.distcp", "step": None}
    (short,) = json_of("verify", folder, status=1)["problems"]["short file"]
    assert short["detail"].startswith("bytes ")
    assert "__3_0.distcp, bytes " in run("verify", folder).out


def found_in(folder: Path, *options: str) -> list[dict[str, Any]]:
    problems = json_of("verify", folder, *options, status=1)["problems"]
    return [one for found in problems.values() for one in found]


def test_findings_of_deep_name_their_file(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "flipped")
    flipped(folder, "step", b"K\x07.", 1)
    (found,) = found_in(folder, "--deep")
    assert found["file"].endswith(".distcp")
    assert found["file"] not in found["detail"]
    assert found["detail"].startswith("byte ")
    assert f"{found['file']}, byte " in run("verify", folder, "--deep").out


def test_several_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    """The worst status is returned, and all checkpoints are checked."""
    damaged = copied(checkpoint, tmp_path / "damaged")
    file_is_gone(damaged)
    absent = tmp_path / "absent"
    assert json_of("verify", checkpoint, checkpoint)["sound"]
    data = json_of("verify", damaged, checkpoint, status=1)
    assert [one["sound"] for one in data["checkpoints"]] == [False, True]
    assert not data["sound"]
    assert data["checkpoints"][0] == json_of("verify", damaged, status=1)
    data = json_of("verify", absent, damaged, checkpoint, status=2)
    assert [one["sound"] for one in data["checkpoints"]] == [None, False, True]
    assert "no such directory" in data["checkpoints"][0]["error"]
    done = run("verify", absent, damaged, checkpoint)
    assert done.status == 2
    assert "3 checkpoints: 1 sound, 1 damaged, 1 not verified" in done.out
    assert f"{absent}: not verified: {absent}: no such directory" in done.out
    assert "sound: 5 entries" in done.out
    done = run("verify", damaged, checkpoint, "--picture", tmp_path / "a.png")
    assert (done.status, "--picture draws one checkpoint" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (file_is_cut, "1 box extends beyond the end of its file:"),
        (no_location, "1 box is missing in storage_data:"),
        (object_has_no_location, "1 entry is missing in storage_data:"),
        (file_is_outside, "1 box is in a file outside the checkpoint, which is not read:"),
        (bytes_are_shared, "1 pair of items shares bytes of a file:"),
        (file_is_gone, "3 parts are in files that do not exist:"),
    ],
)
def test_findings_are_sentences(
    checkpoint: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = copied(checkpoint, tmp_path / "damaged")
    damage(folder)
    assert message in run("verify", folder).out.splitlines()


def test_a_checksum_is_reported_in_a_sentence(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "flipped")
    flipped(folder, "step", b"K\x07.", 1)
    message = "1 entry has a checksum mismatch: its bytes differ from those written:"
    assert message in run("verify", folder, "--deep").out.splitlines()
