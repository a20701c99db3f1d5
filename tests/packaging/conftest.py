"""The environments of the tests of this folder, each created once.

This folder has no ``__init__.py``, because a package with its name would hide the ``packaging``
that pip and pytest import.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import shardplan
from environments import is_torch, make_environment, run_python, site_packages, succeeded


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with torch, and with the shardplan that is installed here."""
    folder = tmp_path_factory.mktemp("installed")
    environment = make_environment(folder / "venv", lambda name: True)
    package = Path(shardplan.__file__).parent
    shutil.copytree(package, site_packages(environment) / package.name)
    return environment


@pytest.fixture(scope="session")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the packages for a build without isolation, except torch."""
    folder = tmp_path_factory.mktemp("without_torch")
    environment = make_environment(folder / "venv", lambda name: not is_torch(name))
    tools = ("scikit-build-core>=0.10", "cmake>=3.22", "ninja")
    succeeded(run_python(environment, "-m", "pip", "install", "-q", *tools))
    return environment
