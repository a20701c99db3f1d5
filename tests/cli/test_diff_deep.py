"""``shardplan diff --deep`` compares values, however each checkpoint is sharded."""

from __future__ import annotations

import math
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata
from torch.distributed.tensor import Shard

from distributed.state_dicts import BUILDERS, mesh, numbers, spread
from distributed.world import Worlds
from shardplan.cli.checkpoint.entries import entries_of
from shardplan.cli.checkpoint.location import open_checkpoint
from shardplan.cli.comparison import checkpoints as compare
from shardplan.cli.comparison import parts as compare_parts

from .commands import copied, json_of, run

EVERY = ["whole", "rows", "columns", "last dim", "grid"]


def save_sharded(folder: Path, how: str, changed: bool = False) -> None:
    cube = numbers(7, 9, 5)
    if changed:
        cube[6, 8, 4] += 0.5
    placed: dict[str, Any] = {
        "whole": cube,
        "rows": spread(cube, mesh(4), Shard(0)),
        "columns": spread(cube, mesh(4), Shard(1)),
        "last dim": spread(cube, mesh(4), Shard(2)),
        "grid": spread(cube, mesh(2, 2), Shard(1), Shard(0)),
    }
    dcp.save({"cube": placed[how], "step": 7}, storage_writer=dcp.FileSystemWriter(folder))


def save_built(folder: Path, of: str) -> None:
    dcp.save(BUILDERS[of](), storage_writer=dcp.FileSystemWriter(folder))


def save(folder: Path, **values: Any) -> Path:
    dcp.save(values, checkpoint_id=folder, no_dist=True)
    return folder


def edited(folder: Path, edit: Callable[[Metadata], None]) -> None:
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    edit(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def of_part(folder: Path, name: str, data: bytes) -> None:
    """Replaces the part of an entry."""
    (folder / "other").write_bytes(data)

    def edit(metadata: Metadata) -> None:
        location = next(at for key, at in metadata.storage_data.items() if key.fqn == name)
        location.relative_path, location.offset, location.length = "other", 0, len(data)

    edited(folder, edit)


def saved_part(tensor: torch.Tensor, folder: Path) -> bytes:
    torch.save(tensor, folder / "part")
    return (folder / "part").read_bytes()


def values_of(a: Path, b: Path, status: int) -> dict[str, dict[str, Any]]:
    data = json_of("diff", a, b, "--deep", status=status)
    return {one["name"]: one for one in data["values"]}


@pytest.fixture(scope="module")
def sharded(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints with the same values in every layout, and one with one changed element."""
    folder = tmp_path_factory.mktemp("sharded")
    for how in EVERY:
        worlds[4].run(save_sharded, folder / how, how)
        worlds[4].run(save_sharded, folder / f"{how} changed", how, True)
    return folder


@pytest.mark.parametrize("a", EVERY)
@pytest.mark.parametrize("b", EVERY)
def test_layouts_do_not_matter(sharded: Path, a: str, b: str) -> None:
    equal = json_of("diff", sharded / a, sharded / b, "--deep", status=0 if a == b else 1)
    (cube,) = equal["values"]
    assert cube == {
        "name": "cube",
        "elements": 315,
        "compared": 315,
        "differing": 0,
        "nan": 0,
        "infinite": 0,
        "largest_difference": None,
        "not_compared": None,
        "damaged": False,
    }
    changed = values_of(sharded / a, sharded / f"{b} changed", 1)["cube"]
    assert changed == {**cube, "differing": 1, "largest_difference": 0.5}


def test_differences_are_sentences(sharded: Path) -> None:
    done = run("diff", sharded / "rows", sharded / "rows changed", "--deep")
    assert done.status == 1
    assert done.out.splitlines() == [
        "",
        "1 tensor differs in value:",
        "  cube: 1 of 315 elements differs, by 0.5",
        "",
        "the checkpoints differ; 1 entry is the same",
    ]
    done = run("diff", sharded / "rows", sharded / "rows", "--deep")
    assert (done.status, done.out) == (0, "no difference: 2 entries, values included\n")


@pytest.mark.parametrize("of", ["uneven", "replicated", "sharded_tensors", "sub_meshes", "nested"])
def test_every_kind_of_entry_equals_itself(worlds: Worlds, tmp_path: Path, of: str) -> None:
    worlds[4].run(save_built, tmp_path / "a", of)
    worlds[4].run(save_built, tmp_path / "b", of)
    data = json_of("diff", tmp_path / "a", tmp_path / "b", "--deep")
    assert data["same"] == len(data["values"]) + len(data["objects"]) > 0
    assert all(one["compared"] == one["elements"] for one in data["values"])


def change_of(values: list[Any], others: list[Any], dtype: torch.dtype) -> Any:
    return torch.tensor(values).to(dtype), torch.tensor(others).to(dtype)


NAN, INF = math.nan, math.inf
# a, b, and of the elements: how many differ, are NaN, are infinite, and the largest difference.
CHANGES: dict[str, tuple[torch.Tensor, torch.Tensor, tuple[Any, ...]]] = {
    "float32": (*change_of([1.0, 2.0, 3.0], [1.0, 2.5, 2.0], torch.float32), (2, 0, 0, 1.0)),
    "float64": (*change_of([1.0, 2.0], [1.0, 2.25], torch.float64), (1, 0, 0, 0.25)),
    "float16": (*change_of([60000.0, 1.0], [-60000.0, 1.0], torch.float16), (1, 0, 0, 120000.0)),
    "bfloat16": (*change_of([1.5, -3.0], [1.0, -3.0], torch.bfloat16), (1, 0, 0, 0.5)),
    "float8": (*change_of([1.0, 2.0, 3.0], [1.0, 4.0, 2.0], torch.float8_e5m2), (2, 0, 0, None)),
    "complex64": (*change_of([3 + 4j, 1j], [0j, 1j], torch.complex64), (1, 0, 0, 5.0)),
    "complex128": (*change_of([1j, 3 + 4j], [1j, 0j], torch.complex128), (1, 0, 0, 5.0)),
    "complex32": (*change_of([1j, 3 + 4j], [1j, 0j], torch.complex32), (1, 0, 0, 5.0)),
    "int64": (
        torch.tensor([2**63 - 1, 5]),
        torch.tensor([-(2**63), 5]),
        (1, 0, 0, 2**64 - 1),
    ),
    "int8": (*change_of([127, 1, -1], [-128, 1, -1], torch.int8), (1, 0, 0, 255)),
    "uint8": (*change_of([255, 1], [0, 2], torch.uint8), (2, 0, 0, 255)),
    "bool": (*change_of([True, False], [True, True], torch.bool), (1, 0, 0, None)),
    "0-d": (torch.tensor(2.0), torch.tensor(-2.0), (1, 0, 0, 4.0)),
    "0-d complex128": (
        torch.tensor(1j, dtype=torch.complex128),
        torch.tensor(2j, dtype=torch.complex128),
        (1, 0, 0, 1.0),
    ),
    "empty": (torch.empty(0, 4), torch.empty(0, 4), (0, 0, 0, None)),
    "the same NaN": (torch.tensor([NAN, 1.0]), torch.tensor([NAN, 1.0]), (0, 0, 0, None)),
    "NaN": (torch.tensor([NAN, 1.0, 2.0]), torch.tensor([1.0, 1.0, 4.0]), (2, 1, 0, 2.0)),
    "NaN alone": (torch.tensor([NAN, 1.0]), torch.tensor([1.0, 1.0]), (1, 1, 0, None)),
    "infinite": (torch.tensor([INF, -INF, 1.0]), torch.tensor([INF, INF, 3.0]), (2, 0, 1, 2.0)),
    "of signs": (torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]), (1, 0, 0, 0.0)),
    "beyond float64": (
        torch.tensor([1e308, 1.0], dtype=torch.float64),
        torch.tensor([-1e308, 1.0], dtype=torch.float64),
        (1, 0, 0, sys.float_info.max),
    ),
    "transposed": (numbers(6, 4).t(), numbers(6, 4).t().contiguous(), (0, 0, 0, None)),
    "transposed, changed": (
        numbers(6, 4).t(),
        numbers(6, 4).t().contiguous().index_fill_(1, torch.tensor([5]), 0),
        (4, 0, 0, 1023.0),
    ),
}
MESSAGES = {
    "float32": "2 of 3 elements differ, by at most 1",
    "float8": "2 of 3 elements differ",
    "int64": "1 of 2 elements differs, by about 10^19",
    "NaN": "2 of 3 elements differ, by 2; 1 is NaN in A or in B",
    "NaN alone": "1 of 2 elements differs; 1 is NaN in A or in B",
    "infinite": "2 of 3 elements differ, by 2; 1 is infinite in A or in B",
    "of signs": "1 of 2 elements differs, only in its bytes",
    "0-d": "1 of 1 element differs, by 4",
}


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("changes")
    a = save(folder / "a", **{name: change[0] for name, change in CHANGES.items()})
    return a, save(folder / "b", **{name: change[1] for name, change in CHANGES.items()})


def test_amount_of_difference(changes: tuple[Path, Path]) -> None:
    for a, b in (changes, changes[::-1]):
        found = values_of(a, b, 1)
        assert {
            name: tuple(one[key] for key in ("differing", "nan", "infinite", "largest_difference"))
            for name, one in found.items()
        } == {name: change[2] for name, change in CHANGES.items()}
        assert all(one["compared"] == one["elements"] for one in found.values())


def test_amount_of_difference_in_sentences(changes: tuple[Path, Path]) -> None:
    lines = run("diff", *changes, "--deep", "--rows", 100).out.splitlines()
    assert [
        f"  {name}: {message}"
        for name, message in MESSAGES.items()
        if f"  {name}: {message}" not in lines
    ] == []
    differing = sum(1 for *_, found in CHANGES.values() if found[0])
    assert f"{differing} tensors differ in value:" in lines
    few = run("diff", *changes, "--deep", "--rows", 2).out.splitlines()
    assert f"  and {differing - 2} more" in few


def test_a_part_of_a_larger_storage(tmp_path: Path) -> None:
    """DCP does not write such offsets and strides, but its reader reads them."""
    storage = numbers(10, 12)
    view = storage[2:8:2, 3:].t()
    a = save(tmp_path / "a", w=torch.zeros(9, 3))
    of_part(a, "w", saved_part(view, tmp_path))
    b = save(tmp_path / "b", w=view.contiguous())
    assert values_of(a, b, 0)["w"]["compared"] == 27
    other = view.contiguous()
    other[8, 1] += 3
    c = save(tmp_path / "c", w=other)
    found = values_of(a, c, 1)["w"]
    assert (found["differing"], found["largest_difference"]) == (1, 3.0)


def test_objects(tmp_path: Path) -> None:
    a = save(tmp_path / "a", step=7, text="x" * 3_000_000)
    b = save(tmp_path / "b", step=8, text="x" * 3_000_000)
    data = json_of("diff", a, b, "--deep", status=1)
    assert {one["name"]: one["differs"] for one in data["objects"]} == {"step": True, "text": False}
    lines = run("diff", a, b, "--deep").out.splitlines()
    assert lines[1:3] == ["1 object differs in bytes:", "  step"]
    file = b / "__0_0.distcp"
    data = bytearray(file.read_bytes())
    data[data.index(b"K\x08.") + 1] ^= 64
    file.write_bytes(data)
    (step,) = (
        one for one in json_of("diff", a, b, "--deep", status=1)["objects"] if one["damaged"]
    )
    assert (step["name"], step["differs"]) == ("step", False)
    assert step["not_compared"].startswith(f"in {b} it is damaged: checksum mismatch")


def test_damage_is_not_a_difference_of_values(sharded: Path, tmp_path: Path) -> None:
    folder = copied(sharded / "rows", tmp_path / "damaged")
    file = folder / "__1_0.distcp"
    data = bytearray(file.read_bytes())
    data[data.index(numbers(7, 9, 5)[2:4].numpy().tobytes())] ^= 1
    file.write_bytes(data)
    for a, b in ((folder, sharded / "columns"), (sharded / "columns", folder)):
        cube = values_of(a, b, 1)["cube"]
        assert (cube["compared"], cube["differing"], cube["damaged"]) == (315 - 90, 0, True)
        assert re.fullmatch(
            rf"the box at \[2, 0, 0\] in {folder}: __1_0\.distcp, byte [0-9,]+: "
            rf"checksum mismatch in archive/data/0",
            cube["not_compared"],
        )
    file.unlink()
    assert "does not exist" in values_of(folder, sharded / "rows", 1)["cube"]["not_compared"]
    file.write_bytes(b"")
    message = run("diff", folder, sharded / "rows", "--deep")
    assert message.status == 1
    assert re.search(r"^(1 entry was|2 entries were) not compared in full:$", message.out, re.M)


def big_endian(tensor: torch.Tensor, folder: Path) -> bytes:
    """A part that declares big-endian data."""
    saved_part(tensor, folder)
    reader = torch._C.PyTorchFileReader(str(folder / "part"))
    writer = torch._C.PyTorchFileWriter(str(folder / "big"))
    for name in reader.get_all_records():
        data = b"big" if name == "byteorder" else reader.get_record(name)
        writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return (folder / "big").read_bytes()


UNREAD: dict[str, tuple[Callable[[Path], bytes], bool, str]] = {
    "sparse": (lambda at: saved_part(numbers(4).to_sparse(), at), False, "is not a plain tensor"),
    "big-endian": (lambda at: big_endian(numbers(4), at), False, "has big-endian bytes"),
    "another shape": (lambda at: saved_part(numbers(5), at), True, "has the shape [5], not [4]"),
    "another dtype": (
        lambda at: saved_part(numbers(4).int(), at), True, "has the dtype int32, not float32",
    ),
    "no zip": (lambda at: b"abcdefgh" * 9, True, "was not written by torch.save"),
    "cut": (lambda at: saved_part(numbers(4), at)[:-30], True, ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNREAD)
def test_unread_entries_are_reported(tmp_path: Path, kind: str) -> None:
    part, damaged, why = UNREAD[kind]
    a = save(tmp_path / "a", w=numbers(4), v=numbers(3))
    b = save(tmp_path / "b", w=numbers(4), v=numbers(3))
    of_part(b, "w", part(tmp_path))
    found = values_of(a, b, 1 if damaged else 2)
    w = found["w"]
    assert (w["compared"], w["differing"], w["damaged"]) == (0, 0, damaged)
    assert w["not_compared"].startswith(f"the box at [0] in {b}: other, byte 0: ")
    assert why in w["not_compared"]
    assert found["v"]["compared"] == 3
    if not damaged:
        lines = run("diff", a, b, "--deep").out.splitlines()
        assert lines[-1] == "no difference in what was compared; 1 entry is the same"


def test_a_part_that_was_transformed(tmp_path: Path) -> None:
    a, b = save(tmp_path / "a", w=numbers(4)), save(tmp_path / "b", w=numbers(4))

    def edit(metadata: Metadata) -> None:
        (location,) = metadata.storage_data.values()
        location.transform_descriptors = ["stream.zstd"]

    edited(b, edit)
    assert "was transformed when it was written" in values_of(a, b, 2)["w"]["not_compared"]


def moved(metadata: Metadata, boxes: dict[tuple[int, ...], tuple[int, ...] | None]) -> None:
    """Moves or removes boxes of ``cube``; each box keeps its part."""
    saved: Any = metadata.state_dict_metadata["cube"]
    locations = {
        tuple(key.offset or ()): (key, at)
        for key, at in metadata.storage_data.items()
        if key.fqn == "cube"
    }
    kept = []
    for chunk in saved.chunks:
        begin = boxes.get(tuple(chunk.offsets), tuple(chunk.offsets))
        key, location = locations[tuple(chunk.offsets)]
        del metadata.storage_data[key]
        if begin is None:
            continue
        kept.append(ChunkStorageMetadata(torch.Size(begin), chunk.sizes))
        metadata.storage_data[type(key)(key.fqn, torch.Size(begin), key.index)] = location
    saved.chunks = kept


def test_a_hole(sharded: Path, tmp_path: Path) -> None:
    folder = copied(sharded / "rows", tmp_path / "hole")
    edited(folder, lambda metadata: moved(metadata, {(2, 0, 0): None}))
    cube = values_of(folder, sharded / "grid changed", 1)["cube"]
    assert (cube["compared"], cube["differing"], cube["damaged"]) == (225, 1, True)
    assert cube["not_compared"] == f"90 elements are in no box of {folder}"


def test_boxes_that_overlap(sharded: Path, tmp_path: Path) -> None:
    """Rows 2 and 3 are moved to 1 and 2: row 1 is read from the first box, row 3 from none."""
    folder = copied(sharded / "rows", tmp_path / "overlap")
    edited(folder, lambda metadata: moved(metadata, {(2, 0, 0): (1, 0, 0)}))
    for a, b in ((folder, sharded / "columns"), (sharded / "columns", folder)):
        cube = values_of(a, b, 1)["cube"]
        assert (cube["compared"], cube["differing"]) == (315 - 45, 45)
        assert cube["largest_difference"] == 45.0
        assert cube["not_compared"] == (
            f"1 pair of its boxes in {folder} overlaps; the first box was compared; "
            f"and 1 more reason"
        )


def test_a_box_out_of_bounds(sharded: Path, tmp_path: Path) -> None:
    folder = copied(sharded / "rows", tmp_path / "outside")
    edited(folder, lambda metadata: moved(metadata, {(6, 0, 0): (7, 0, 0)}))
    cube = values_of(folder, sharded / "rows", 1)["cube"]
    assert (cube["compared"], cube["differing"], cube["damaged"]) == (270, 0, True)
    assert cube["not_compared"].startswith(f"1 box of it in {folder} lies out of bounds; ")


def test_entries_that_differ_otherwise_are_not_compared(tmp_path: Path) -> None:
    a = save(tmp_path / "a", shape=numbers(3), dtype=numbers(3), kind=numbers(3), same=numbers(3))
    b = save(tmp_path / "b", shape=numbers(4), dtype=numbers(3).int(), kind=3, same=numbers(3))
    assert set(values_of(a, b, 1)) == {"same"}


def test_numpy_is_named_where_it_is_missing(sharded: Path) -> None:
    without = "import sys; sys.modules['numpy'] = None"
    done = run("diff", sharded / "rows", sharded / "rows", "--deep", before=without)
    assert done.status == 2
    assert done.err == "shardplan diff: --deep needs numpy:  pip install 'shardplan[cli]'\n"
    assert run("diff", sharded / "rows", sharded / "rows", before=without).status == 0


def test_a_url(sharded: Path) -> None:
    data = json_of("diff", f"file://{sharded}/rows", sharded / "grid changed", "--deep", status=1)
    (cube,) = data["values"]
    assert (cube["compared"], cube["differing"]) == (315, 1)


def compared(a: Path, b: Path, limit: int) -> dict[str, dict[str, Any]]:
    """Compares as ``diff --deep`` does, in this process."""
    sides = [open_checkpoint(str(one)) for one in (a, b)]
    of_a, of_b = ({one.name: one for one in entries_of(side.checkpoint)} for side in sides)
    pairs = [(one, of_b[name]) for name, one in of_a.items()]
    return {one.entry.name: one.as_data() for one in compare.compare(*sides, pairs, limit)}


@pytest.mark.parametrize("limit", [0, 800, 20000])
@pytest.mark.parametrize("elements", [1, 50])
def test_any_buffer_limits(
    sharded: Path,
    changes: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    elements: int,
) -> None:
    """With limits that are far too low for files, small tensors take the paths of large ones."""
    monkeypatch.setattr(compare, "_MIN_MEMORY", 0)
    monkeypatch.setattr(compare, "_MAX_ELEMENTS", elements)
    monkeypatch.setattr(compare, "_MIN_BATCH", 2)
    monkeypatch.setattr(compare, "_MAX_PAIRS", 1)
    monkeypatch.setattr(compare_parts, "_MAX_STRETCH", 4 * elements)
    monkeypatch.setattr(compare_parts, "_MAX_WASTE", 2)
    monkeypatch.setattr(compare_parts, "_SMALL", 1)
    for a in EVERY:
        for b in EVERY:
            cube = compared(sharded / a, sharded / f"{b} changed", limit)["cube"]
            assert (cube["compared"], cube["differing"], cube["largest_difference"]) == (
                315,
                1,
                0.5,
            )
    for name, one in compared(*changes, limit).items():
        found = tuple(one[key] for key in ("differing", "nan", "infinite", "largest_difference"))
        assert (one["compared"], found) == (one["elements"], CHANGES[name][2]), name
