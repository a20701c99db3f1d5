"""The errors of a build without torch or with an old one, and a build with one elsewhere.

The package that all tests use was built by a plain ``pip install .``, which ``make test`` runs.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch

from environments import (
    SOURCE,
    failed,
    install,
    is_torch,
    link_installed,
    run_python,
    site_packages,
    succeeded,
)

SAVE_AND_LOAD = """
import sys, torch, shardplan
import torch.distributed.checkpoint as dcp
state = {"weight": torch.arange(6.0).reshape(2, 3), "step": 7}
dcp.save(state, checkpoint_id=sys.argv[1], no_dist=True, planner=shardplan.DefaultSavePlanner())
found = {"weight": torch.zeros(2, 3), "step": 0}
dcp.load(found, checkpoint_id=sys.argv[1], no_dist=True, planner=shardplan.DefaultLoadPlanner())
assert torch.equal(found["weight"], state["weight"]) and found["step"] == 7, found
print(shardplan.__file__)
"""


def assert_works(environment: Path, folder: Path, **variables: str) -> None:
    """Asserts that the installation matches the environment, and saves and loads."""
    info = succeeded(run_python(environment, "-m", "shardplan", "info", **variables))
    assert f"{'torch':<12}{torch.__version__}" in info.splitlines()
    assert "The native modules match." in info
    home = succeeded(run_python(environment, "-c", SAVE_AND_LOAD, folder / "saved", **variables))
    assert site_packages(environment) in Path(home.strip()).parents


def test_the_installed_package_works(installed: Path, tmp_path: Path) -> None:
    assert_works(installed, tmp_path)


def test_modules_contain_no_path_of_the_build_machine(installed: Path) -> None:
    modules = list((site_packages(installed) / "shardplan").glob("*.so"))
    assert {module.name.split(".")[0] for module in modules} == {"_core", "_torch"}
    for module in modules:
        done = subprocess.run(["readelf", "-d", module], capture_output=True, text=True, check=True)
        assert "NEEDED" in done.stdout
        assert "RPATH" not in done.stdout and "RUNPATH" not in done.stdout


def test_build_without_torch_tells_how_to_install_it(without_torch: Path) -> None:
    message = failed(install(without_torch, "--no-build-isolation"))
    assert "shardplan is built against an installed torch, and none was found" in message
    assert "pip install torch==" in message
    assert "--no-build-isolation" in message and "SHARDPLAN_TORCH_DIR" in message


@pytest.mark.parametrize("version", ["2.10.0", "2.9.1+cu128", "1.13.1"])
def test_build_with_an_old_torch_fails_with_its_version(
    without_torch: Path, tmp_path: Path, version: str
) -> None:
    (tmp_path / "version.py").write_text(f"__version__ = '{version}'\n")
    message = failed(
        install(without_torch, "--no-build-isolation", SHARDPLAN_TORCH_DIR=str(tmp_path))
    )
    assert f"shardplan needs torch 2.11 or later; found torch {version} at {tmp_path}" in message
    assert "pip install torch==" in message


def test_build_with_an_incomplete_torch_names_the_missing_file(
    without_torch: Path, tmp_path: Path
) -> None:
    (tmp_path / "version.py").write_text(f"__version__ = '{torch.__version__}'\n")
    message = failed(
        install(without_torch, "--no-build-isolation", SHARDPLAN_TORCH_DIR=str(tmp_path))
    )
    assert f"torch {torch.__version__} at {tmp_path} lacks {tmp_path}/include/pybind11" in message


def test_build_with_a_torch_given_by_its_folder(without_torch: Path, tmp_path: Path) -> None:
    """This is the last test in this environment, because it leaves shardplan installed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link_installed(elsewhere, is_torch)
    named = str(elsewhere / "torch")
    succeeded(install(without_torch, "--no-build-isolation", SHARDPLAN_TORCH_DIR=named))
    assert_works(without_torch, tmp_path, PYTHONPATH=str(elsewhere))
    without = failed(run_python(without_torch, "-c", "import shardplan; shardplan.register()"))
    assert "built for torch" in without and "found no torch" in without


def test_build_with_free_threaded_python_fails(installed: Path, tmp_path: Path) -> None:
    """The Python of the tests says here that it is one."""
    pretend = "import sysconfig\nsysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1\n"
    (tmp_path / "sitecustomize.py").write_text(pretend)
    command = ["cmake", "-S", SOURCE, "-B", tmp_path / "build", "-G", "Unix Makefiles"]
    command.append(f"-DPython_EXECUTABLE={installed / 'bin' / 'python'}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "shardplan does not support free-threaded Python" in " ".join(done.stderr.split())
