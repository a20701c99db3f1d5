"""Builds one wheel for the torch and the Python of this environment.

    python -m wheels.build dist

The wheel's version has the torch minor as its local label, for example ``0.1.0+torch2.13``, and its
metadata requires that minor. It is repaired for manylinux, and contains no library of torch. A
plain ``pip install .`` has neither the label nor the requirement: it is built against the installed
torch, which pip must not replace.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from packaging.utils import parse_wheel_filename

SOURCE = Path(__file__).resolve().parents[1]
# The process that imports shardplan has loaded these libraries from the installed torch.
TORCH_LIBRARIES = ("libtorch*.so*", "libc10*.so*", "libshm.so*")


def run_tool(*command: str | Path) -> None:
    """Runs a module of this Python, which also finds the programs installed beside it.

    Raises:
        subprocess.CalledProcessError: the command failed. Its output has been printed.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    subprocess.run(
        [sys.executable, "-m", *map(str, command)], check=True, env={**os.environ, "PATH": path}
    )


def only_wheel(folder: Path) -> Path:
    """Returns the one wheel in a folder.

    Raises:
        ValueError: there is none, or several.
    """
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ValueError(f"{folder} has {len(wheels)} wheels, not one")
    return wheels[0]


def torch_minor(wheel: Path) -> str:
    """Returns the minor version of the torch that a wheel was built with, as ``2.13``.

    Raises:
        ValueError: the build did not note a version of torch.
    """
    with zipfile.ZipFile(wheel) as archive:
        built = archive.read("shardplan/_build_info.py").decode()
    found = re.search(r'^TORCH = "(\d+\.\d+)\.', built, re.MULTILINE)
    if found is None:
        raise ValueError(f"{wheel.name} does not name the torch that it was built with")
    return found[1]


def replace_line(file: Path, old: str, new: str) -> None:
    """Replaces the first line that reads ``old``.

    Raises:
        ValueError: there is no such line.
    """
    lines = file.read_text(encoding="utf-8").split("\n")
    if old not in lines:
        raise ValueError(f"{file.name} has no line {old!r}")
    lines[lines.index(old)] = new
    file.write_text("\n".join(lines), encoding="utf-8")


def add_label(wheel: Path, out: Path) -> Path:
    """Writes a copy of a wheel that names and requires the torch minor that it was built with.

    Args:
        wheel: a wheel whose version has no local label.
        out: the folder of the copy.

    Returns:
        The copy. ``shardplan.__version__`` has the label too.

    Raises:
        ValueError: the version has a label, or differs from that in the wheel's files.
    """
    name, version, _, _ = parse_wheel_filename(wheel.name)
    if version.local is not None:
        raise ValueError(f"{wheel.name} already has the label {version.local}")
    minor = torch_minor(wheel)
    labelled = f"{version}+torch{minor}"
    with tempfile.TemporaryDirectory() as temporary:
        run_tool("wheel", "unpack", "--dest", temporary, wheel)
        (root,) = Path(temporary).iterdir()
        info = root / f"{name}-{version}.dist-info"
        named = f"Version: {labelled}\nRequires-Dist: torch=={minor}.*"
        replace_line(info / "METADATA", f"Version: {version}", named)
        built = root / "shardplan" / "_build_info.py"
        replace_line(built, f'SHARDPLAN = "{version}"', f'SHARDPLAN = "{labelled}"')
        info.rename(root / f"{name}-{labelled}.dist-info")
        out.mkdir(parents=True, exist_ok=True)
        run_tool("wheel", "pack", "--dest-dir", out, root)
    return only_wheel(out)


def repair(wheel: Path, out: Path) -> Path:
    """Writes a copy of a wheel for the oldest manylinux policy that it satisfies.

    Args:
        wheel: a wheel for Linux.
        out: the folder of the copy.

    Returns:
        The copy.

    Raises:
        ValueError: auditwheel copied libraries into the wheel.
        subprocess.CalledProcessError: auditwheel failed.
    """
    excluded = [option for name in TORCH_LIBRARIES for option in ("--exclude", name)]
    with tempfile.TemporaryDirectory() as temporary:
        run_tool("auditwheel", "repair", *excluded, "--wheel-dir", temporary, wheel)
        repaired = only_wheel(Path(temporary))
        with zipfile.ZipFile(repaired) as archive:
            libraries = [name for name in archive.namelist() if ".libs/" in name]
        if libraries:
            raise ValueError(f"{repaired.name} contains copies of libraries: {libraries}")
        out.mkdir(parents=True, exist_ok=True)
        return repaired.replace(out / repaired.name)


def build(out: Path) -> Path:
    """Builds a wheel against the installed torch, labels it and repairs it.

    Args:
        out: the folder of the wheel.

    Returns:
        The wheel.
    """
    with tempfile.TemporaryDirectory() as temporary:
        plain, labelled = Path(temporary, "plain"), Path(temporary, "labelled")
        run_tool("pip", "wheel", "--no-deps", "--wheel-dir", plain, SOURCE)
        return repair(add_label(only_wheel(plain), labelled), out)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the folder of the wheel")
    print(build(parser.parse_args(arguments).out))


if __name__ == "__main__":
    main()
