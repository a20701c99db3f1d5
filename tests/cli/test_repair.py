"""``shardplan repair`` rebuilds ``.metadata`` from what a writer leaves, and deletes nothing."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.checkpoint.metadata import Metadata

from shardplan.dcp.storage import atomic_directory

from .commands import Done, copied, json_of, run


def listing(folder: Path) -> dict[str, bytes]:
    """Returns the path and the bytes of every file below a directory."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def without_metadata(checkpoint: Path, folder: Path, to: str = ".metadata.tmp") -> Path:
    """Copies a checkpoint as if its coordinator had died before the rename."""
    copied(checkpoint, folder)
    (folder / ".metadata").rename(folder / to)
    return folder


def repaired(folder: Path, *options: object) -> Any:
    """Repairs a checkpoint, after a dry run that changes nothing and says the same."""
    before = listing(folder.parent)
    planned = json_of("repair", folder, "--dry-run", *options)
    assert listing(folder.parent) == before
    data = json_of("repair", folder, *options)
    assert (data["outcome"], data["sound"]) == ("repaired", True)
    assert planned["outcome"] == "would be repaired"
    assert planned["steps"] == data["steps"]
    assert json_of("verify", folder, "--deep")["sound"]
    assert json_of("repair", folder)["outcome"] == "nothing to repair"
    return data


def refused(folder: Path, status: int = 1) -> Done:
    """Runs a repair that must fail and change nothing."""
    before = listing(folder.parent)
    done = run("repair", folder)
    assert done.status == status, done
    assert listing(folder.parent) == before
    return done


def actions(data: Any) -> list[str]:
    return [step["action"] for step in data["steps"]]


def edited(file: Path, edit: Callable[[Metadata], None]) -> None:
    metadata = pickle.loads(file.read_bytes())
    edit(metadata)
    file.write_bytes(pickle.dumps(metadata))


def test_a_sound_checkpoint_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "sound")
    before = listing(tmp_path)
    done = run("repair", folder)
    assert (done.status, "nothing to repair" in done.out) == (0, True)
    (folder / ".metadata.tmp").write_bytes(b"left")
    assert json_of("repair", folder)["notes"]
    (folder / ".metadata.tmp").unlink()
    assert listing(tmp_path) == before


def test_a_temporary_file_is_renamed(checkpoint: Path, tmp_path: Path) -> None:
    folder = without_metadata(checkpoint, tmp_path / "tmp")
    assert actions(repaired(folder)) == ["rename"]
    assert listing(folder) == listing(checkpoint)


@pytest.mark.parametrize("broken", [b"", b"\x80\x04}", b"\0" * 100])
def test_unreadable_metadata_is_kept(checkpoint: Path, tmp_path: Path, broken: bytes) -> None:
    folder = without_metadata(checkpoint, tmp_path / "tmp")
    (folder / ".metadata").write_bytes(broken)
    (folder / ".metadata.broken").write_bytes(b"of an earlier repair")
    assert actions(repaired(folder)) == ["keep", "rename"]
    assert (folder / ".metadata.broken").read_bytes() == b"of an earlier repair"
    assert (folder / ".metadata.broken.1").read_bytes() == broken


def test_old_metadata_gives_way_to_that_of_the_data(checkpoint: Path, tmp_path: Path) -> None:
    folder = without_metadata(checkpoint, tmp_path / "tmp")
    old = copied(checkpoint, tmp_path / "old") / ".metadata"

    def edit(metadata: Metadata) -> None:
        for place in metadata.storage_data.values():
            place.offset += 1_000_000

    edited(old, edit)
    old.rename(folder / ".metadata")
    assert actions(repaired(folder)) == ["keep", "rename"]
    assert (folder / ".metadata.broken").exists()


def test_after_a_repair_an_atomic_save_is_possible(checkpoint: Path, tmp_path: Path) -> None:
    folder = without_metadata(checkpoint, tmp_path / "tmp")
    (folder / ".metadata").write_bytes(b"broken")
    repaired(folder)
    assert atomic_directory.other_files(folder) == []


def test_a_repair_that_died_between_two_renames_goes_on(checkpoint: Path, tmp_path: Path) -> None:
    folder = without_metadata(checkpoint, tmp_path / "tmp")
    (folder / ".metadata.broken").write_bytes(b"broken")
    (folder / ".metadata.merged").write_bytes(b"half")
    assert actions(repaired(folder)) == ["rename"]


def test_a_corrupt_temporary_file(checkpoint: Path, tmp_path: Path) -> None:
    folder = without_metadata(checkpoint, tmp_path / "tmp")
    whole = (folder / ".metadata.tmp").read_bytes()
    for broken in (b"", whole[:-1], whole[: len(whole) // 2], b"\xff" * 1000):
        (folder / ".metadata.tmp").write_bytes(broken)
        done = refused(folder)
        assert ".metadata.tmp" in done.out
        assert "__0_0.distcp" in done.out
        assert "names" in done.out
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        (folder / ".metadata.tmp").write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        assert run("repair", folder, "--dry-run").status in (0, 1)


def test_a_hostile_temporary_file_runs_nothing(checkpoint: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    folder = without_metadata(checkpoint, tmp_path / "tmp")
    for file in (".metadata.tmp", "__0.metadata"):
        (folder / file).write_bytes(pickle.dumps(Metadata({}, Hostile(), {})))
        refused(folder)
    os.truncate(folder / ".metadata.tmp", 2**40)
    assert run("repair", folder).status == 1
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("lost", ["cut", "gone"])
def test_a_lost_part(checkpoint: Path, tmp_path: Path, lost: str) -> None:
    folder = without_metadata(checkpoint, tmp_path / "tmp")
    file = folder / "__3_0.distcp"
    if lost == "cut":
        os.truncate(file, file.stat().st_size - 100)
    else:
        file.unlink()
    done = refused(folder)
    assert "__3_0.distcp" in done.out
    data = json_of("repair", folder, status=1)
    assert data["outcome"] == "cannot be repaired"
    sizes = {each.name: each.stat().st_size for each in folder.glob("*.distcp")}
    assert {one["name"]: one["bytes"] for one in data["found"]["data_files"]} == sizes


def test_only_data_files(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "data")
    for name in (".metadata", "__1_0.distcp"):
        (folder / name).unlink()
    done = refused(folder)
    assert ".metadata is missing" in done.out
    assert "no data file of rank 1," in done.out
    assert "neither their names" in done.out
    assert "__1_0" not in done.out
    assert json_of("repair", folder, status=1)["found"]["ranks_without_data"] == [[1, 1]]


def test_data_of_a_later_save(checkpoint: Path, tmp_path: Path) -> None:
    folder = without_metadata(checkpoint, tmp_path / "tmp")
    at = (folder / ".metadata.tmp").stat().st_mtime + 300
    os.utime(folder / "__2_0.distcp", (at, at))
    done = refused(folder)
    assert "__2_0.distcp: written more than a minute after .metadata.tmp" in done.out
    assert actions(repaired(folder, "--ignore-times")) == ["rename"]


@pytest.mark.parametrize("renames", [1, 2, 3])
@pytest.mark.parametrize("of", ["tmp", "ranks", "staging"])
def test_a_repair_that_is_killed_can_be_run_again(
    checkpoint: Path, of_each_rank: Path, tmp_path: Path, of: str, renames: int
) -> None:
    if of == "staging":
        folder, staging = staged(checkpoint, tmp_path)
        copied(checkpoint, folder)
        (folder / "__1_0.distcp").unlink()
        (staging / ".metadata").rename(staging / ".metadata.tmp")
    elif of == "ranks":
        folder = copied(of_each_rank, tmp_path / of)
        (folder / "__2.metadata").rename(folder / "__2.metadata.tmp")
        (folder / ".metadata").write_bytes(b"broken")
    else:
        folder = without_metadata(checkpoint, tmp_path / of)
        (folder / ".metadata").write_bytes(b"broken")
    files = set(listing(tmp_path).values())
    before = (
        "import os\n"
        "done = []\n"
        "def dying(rename):\n"
        "    def renamed(*arguments):\n"
        "        rename(*arguments)\n"
        "        done.append(arguments)\n"
        f"        if len(done) == {renames}:\n"
        "            os._exit(9)\n"
        "    return renamed\n"
        "os.rename = dying(os.rename)\n"
    )
    assert run("repair", folder, before=before).status in (0, 9)
    assert run("repair", folder).status == 0
    assert json_of("verify", folder, "--deep")["sound"]
    assert files <= set(listing(tmp_path).values())


def staged(checkpoint: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Returns the path of a checkpoint, and the staging directory that a dead save has left."""
    path = tmp_path / "latest"
    return path, copied(checkpoint, Path(atomic_directory.staging(path)))


@pytest.mark.parametrize("temporary", [False, True])
def test_a_staging_directory_takes_its_place(
    checkpoint: Path, tmp_path: Path, temporary: bool
) -> None:
    path, staging = staged(checkpoint, tmp_path)
    if temporary:
        (staging / ".metadata").rename(staging / ".metadata.tmp")
    assert actions(repaired(path)) == ["rename"] * temporary + ["put in place"]
    assert listing(path) == listing(checkpoint)
    assert not staging.exists()


def test_a_staging_directory_replaces_a_damaged_checkpoint(
    checkpoint: Path, tmp_path: Path
) -> None:
    path, staging = staged(checkpoint, tmp_path)
    copied(checkpoint, path)
    (path / "__1_0.distcp").unlink()
    damaged = listing(path)
    assert actions(repaired(path)) == ["put in place"]
    assert not staging.exists()
    assert listing(atomic_directory.set_aside(path)) == damaged


def test_a_staging_directory_beside_a_sound_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    path, staging = staged(checkpoint, tmp_path)
    copied(checkpoint, path)
    before = listing(tmp_path)
    done = run("repair", path)
    assert (done.status, "nothing to repair" in done.out) == (0, True)
    assert str(staging) in done.out
    assert listing(tmp_path) == before


def test_files_of_others_are_not_moved(checkpoint: Path, tmp_path: Path) -> None:
    path, _ = staged(checkpoint, tmp_path)
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    assert "notes.txt" in refused(path, status=2).err


def test_an_old_checkpoint_is_put_back(checkpoint: Path, tmp_path: Path) -> None:
    path, staging = staged(checkpoint, tmp_path)
    (staging / ".metadata").unlink()
    copied(checkpoint, Path(atomic_directory.set_aside(path)))
    assert actions(repaired(path)) == ["put back"]
    assert listing(path) == listing(checkpoint)
    assert staging.exists()


def test_an_old_checkpoint_is_put_back_and_repaired(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "latest"
    without_metadata(checkpoint, Path(atomic_directory.set_aside(path)))
    data = json_of("repair", path)
    assert (actions(data), data["outcome"]) == (["put back", "rename"], "repaired")


def test_an_unfinished_staging_directory(checkpoint: Path, tmp_path: Path) -> None:
    path, staging = staged(checkpoint, tmp_path)
    (staging / ".metadata").unlink()
    assert ".latest.shardplan-saving: .metadata is missing" in refused(path).out
    assert run("repair", tmp_path / "absent").status == 2


@pytest.mark.parametrize("of", ["path", "staging"])
def test_a_running_save_is_not_disturbed(checkpoint: Path, tmp_path: Path, of: str) -> None:
    path, staging = staged(checkpoint, tmp_path)
    without_metadata(checkpoint, path)
    descriptor = os.open(path if of == "path" else staging, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        done = refused(path, status=2)
        assert "another process is saving" in done.err
        assert run("repair", path, "--dry-run").status == 2
        # A checkpoint that is sound is not changed, so its lock is not needed.
        assert run("repair", checkpoint).status == 0
    finally:
        os.close(descriptor)
    repaired(path)


def test_what_is_not_repaired(checkpoint: Path, tmp_path: Path) -> None:
    for url in ("memory://step-1", "s3://bucket/step-1", "simplecache::memory://step-1"):
        done = run("repair", url)
        assert (done.status, done.err.count("\n")) == (2, 1)
        assert "only a local directory" in done.err
    assert run("repair", checkpoint / ".metadata").status == 2
    assert run("repair", "/").status == 2
    (tmp_path / "empty").mkdir()
    assert "is not a checkpoint" in refused(tmp_path / "empty", status=2).err
    folder = without_metadata(checkpoint, tmp_path / "tmp")
    (folder / ".metadata").mkdir()
    assert "is not a file" in refused(folder, status=2).err


def test_a_directory_that_cannot_be_written(checkpoint: Path, tmp_path: Path) -> None:
    folder = without_metadata(checkpoint, tmp_path / "tmp")
    before = (
        "import os\ndef fail(*_):\n    raise OSError(30, 'Read-only file system')\nos.rename = fail"
    )
    done = run("repair", folder, before=before)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "Read-only file system" in done.err


def test_torch_is_imported_only_to_merge(
    checkpoint: Path, of_each_rank: Path, tmp_path: Path
) -> None:
    without = "import sys; sys.modules['torch.distributed.checkpoint.metadata'] = None"
    folder = without_metadata(checkpoint, tmp_path / "tmp")
    assert run("repair", folder, before=without).status == 0
    folder = copied(of_each_rank, tmp_path / "ranks")
    done = run("repair", folder, before=without)
    assert (done.status, "merged with torch" in done.err) == (2, True)
