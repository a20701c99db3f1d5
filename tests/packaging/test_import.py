"""Importing shardplan in the environment that runs the tests."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

import torch

import shardplan


def python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_import_alone_does_not_import_torch(tmp_path: Path) -> None:
    loaded = "import sys, shardplan; {}; print('torch' in sys.modules)"
    assert python(loaded.format("shardplan.build_info()"), tmp_path) == "False"
    assert python(loaded.format("dir(shardplan)"), tmp_path) == "False"
    assert python(loaded.format("shardplan.__version__"), tmp_path) == "False"
    assert python(loaded.format("shardplan.DefaultSavePlanner"), tmp_path) == "True"


def test_the_core_module_does_not_import_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from shardplan import _core; "
        "print(_core.local_box([7], [2], [1], [('shard', 0, 1)]), 'torch' in sys.modules)"
    )
    assert python(code, tmp_path) == "([3], [4]) False"


def test_every_public_name_exists() -> None:
    for name in shardplan.__all__:
        assert getattr(shardplan, name) is not None
        assert name in dir(shardplan)


def test_dir_and_help_show_only_the_public_names(tmp_path: Path) -> None:
    assert dir(shardplan) == sorted([*shardplan.__all__, "__version__"])
    assert shardplan.__version__ == importlib.metadata.version("shardplan")
    shown = python("import shardplan; help(shardplan)", tmp_path)
    for name in ("_HOMES", "TYPE_CHECKING", "importlib", "annotations ="):
        assert name not in shown
    for name in ("class DefaultSavePlanner", "register(", shardplan.__version__):
        assert name in shown


def test_an_unknown_name_is_an_attribute_error(tmp_path: Path) -> None:
    code = (
        "import shardplan\n"
        "try: shardplan.no_such_name\n"
        "except AttributeError as error: print(error)"
    )
    assert python(code, tmp_path) == "module 'shardplan' has no attribute 'no_such_name'"


def test_build_info_has_the_versions_of_the_build() -> None:
    built = shardplan.build_info()
    assert list(built) == [
        "shardplan",
        "torch",
        "python",
        "pybind11",
        "compiler",
        "platform",
        "build_type",
    ]
    assert all(built.values())
    assert built["torch"] == torch.__version__
    assert built["python"] == ".".join(platform.python_version_tuple()[:2])
    assert built["platform"] == f"{platform.system()} {platform.machine()}"


def test_info_prints_the_built_and_the_installed_versions(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shardplan", "info"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines()[:-1])
    found = {name.strip(): value for name, value in lines.items()}
    assert found["torch"] == found["found torch"] == torch.__version__
    assert found["found python"] == shardplan.build_info()["python"]
    assert done.stdout.splitlines()[-1] == "The native modules match."
