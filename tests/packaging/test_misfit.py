"""The errors of an installation that was built for another torch or another Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from environments import Result, failed, run_python, site_packages, succeeded

MAJOR, MINOR = torch.__version__.split(".")[:2]
OTHER_MINOR = f"{MAJOR}.{int(MINOR) + 1}.0"
REBUILD = "pip install --force-reinstall --no-deps ."


@pytest.fixture
def copy(installed: Path, tmp_path: Path) -> Path:
    """A copy of the installed package, to be changed, in a folder that comes first on the path."""
    shutil.copytree(site_packages(installed) / "shardplan", tmp_path / "shardplan")
    return tmp_path


def use(environment: Path, copy: Path) -> Result:
    """Accesses a name that needs the native module."""
    return run_python(
        environment,
        "-c",
        "import shardplan; shardplan.build_info(); shardplan.DefaultSavePlanner",
        PYTHONPATH=str(copy),
    )


def info(environment: Path, copy: Path) -> Result:
    return run_python(environment, "-m", "shardplan", "info", PYTHONPATH=str(copy))


def pretend_built_for(copy: Path, name: str, value: str) -> None:
    file = copy / "shardplan" / "_build_info.py"
    lines = file.read_text().splitlines()
    changed = [f'{name} = "{value}"' if line.startswith(name) else line for line in lines]
    assert changed != lines
    file.write_text("\n".join(changed) + "\n")


def pretend_installed(copy: Path, version: str) -> None:
    metadata = copy / f"torch-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")


def test_an_unchanged_copy_works(installed: Path, copy: Path) -> None:
    succeeded(use(installed, copy))
    assert "The native modules match." in succeeded(info(installed, copy))


def test_built_for_another_minor(installed: Path, copy: Path) -> None:
    pretend_built_for(copy, "TORCH", OTHER_MINOR)
    for message in (failed(use(installed, copy)), failed(info(installed, copy))):
        found = f"built for torch {OTHER_MINOR} and found torch {torch.__version__}"
        assert found in message and REBUILD in message


def test_built_for_another_patch_of_the_same_minor(installed: Path, copy: Path) -> None:
    pretend_built_for(copy, "TORCH", f"{MAJOR}.{MINOR}.99+cu999")
    succeeded(use(installed, copy))


def test_found_another_minor(installed: Path, copy: Path) -> None:
    pretend_installed(copy, OTHER_MINOR)
    message = failed(use(installed, copy))
    assert f"built for torch {torch.__version__} and found torch {OTHER_MINOR}" in message


def test_found_too_old(installed: Path, copy: Path) -> None:
    pretend_installed(copy, "2.10.0")
    for message in (failed(use(installed, copy)), failed(info(installed, copy))):
        assert "shardplan needs torch 2.11 or later and found 2.10.0" in message
        assert "pip install torch==" in message


def test_built_for_another_python(installed: Path, copy: Path) -> None:
    pretend_built_for(copy, "PYTHON", "3.9")
    for message in (failed(use(installed, copy)), failed(info(installed, copy))):
        assert "built for Python 3.9 and found Python 3." in message and REBUILD in message


def test_native_module_missing(installed: Path, copy: Path) -> None:
    for module in (copy / "shardplan").glob("_torch*.so"):
        module.unlink()
    message = failed(use(installed, copy))
    assert "shardplan's native module does not load with torch" in message
    assert "Likely causes" in message and REBUILD in message


def test_not_built(installed: Path, copy: Path) -> None:
    (copy / "shardplan" / "_build_info.py").unlink()
    message = failed(use(installed, copy))
    assert "shardplan is not built" in message and "pip install ." in message
