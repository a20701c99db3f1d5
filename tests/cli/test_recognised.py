"""For a file that is not a checkpoint, the error names its format and suggests a command."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from .commands import copied, run


def torch_zip(file: Path) -> None:
    torch.save({"weight": torch.ones(3)}, file)


def torch_legacy(file: Path) -> None:
    torch.save({"weight": torch.ones(3)}, file, _use_new_zipfile_serialization=False)


def safetensors(file: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(3)}, file)


def other_zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme", "hello")


def picture(file: Path) -> None:
    from matplotlib.figure import Figure

    Figure().savefig(file, format="png")


def text(file: Path) -> None:
    file.write_text("Wörter, viele " * 200, encoding="utf-8")


def index(file: Path) -> None:
    file.write_text(json.dumps({"weight_map": {}}))


def nothing(file: Path) -> None:
    file.write_bytes(b"")


def noise(file: Path) -> None:
    file.write_bytes(struct.pack("<4Q", *(0xFEDCBA9876543210 + at for at in range(4))))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (torch_zip, "it is a torch.save file (a zip); to load it"),
        (torch_legacy, "it is a torch.save file in the legacy format (a pickle); to load it"),
        (safetensors, "it is a safetensors file; give the directory"),
        (other_zip, "it is a zip archive; give the directory"),
        (picture, "it is a PNG image; give the directory"),
        (text, "it is text; give the directory"),
        (index, "it is JSON; give the directory"),
        (nothing, "it is empty; give the directory"),
        (noise, "has opcode"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "ls", "verify"])
def test_a_file(tmp_path: Path, command: str, write: object, message: str) -> None:
    assert callable(write)
    file = tmp_path / "model.pt"
    write(file)
    done = run(command, file)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert message in done.err
    assert done.err.count(str(file)) == 1


def test_a_data_file_of_a_checkpoint(checkpoint: Path) -> None:
    done = run("inspect", checkpoint / "__0_0.distcp")
    assert done.status == 2
    assert f"is a data file of a checkpoint: give its directory, {checkpoint}\n" in done.err


def test_a_metadata_that_is_a_torch_save_file(checkpoint: Path, tmp_path: Path) -> None:
    folder = copied(checkpoint, tmp_path / "its.metadata")
    torch_zip(tmp_path / "model.pt")
    (tmp_path / "model.pt").replace(folder / ".metadata")
    assert f"{folder}/.metadata was not read: it is a torch.save" in run("verify", folder).err


def test_the_suggested_conversion_works(tmp_path: Path) -> None:
    import subprocess
    import sys

    torch_zip(tmp_path / "model.pt")
    done = run("inspect", tmp_path / "model.pt")
    command = done.err.strip().partition("python ")[2].split()
    assert command[-2:] == ["FILE", "DIRECTORY"]
    subprocess.run(
        [sys.executable, *command[:-2], tmp_path / "model.pt", tmp_path / "converted"],
        check=True,
        capture_output=True,
    )
    assert "weight" in run("ls", tmp_path / "converted").out
