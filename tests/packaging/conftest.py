"""The environments in which the tests of this folder build shardplan, each created once.

This folder has no ``__init__.py``, because a package with its name would hide the ``packaging``
that pip and pytest import.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from environments import install, is_torch, make_environment, run_python, succeeded


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with torch, and with shardplan installed by a plain ``pip install .``."""
    folder = tmp_path_factory.mktemp("installed")
    environment = make_environment(folder / "venv", lambda name: True)
    succeeded(install(environment))
    return environment


@pytest.fixture(scope="session")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the packages for a build without isolation, except torch."""
    folder = tmp_path_factory.mktemp("without_torch")
    environment = make_environment(folder / "venv", lambda name: not is_torch(name))
    tools = ("scikit-build-core>=0.10", "cmake>=3.22", "ninja")
    succeeded(run_python(environment, "-m", "pip", "install", "-q", *tools))
    return environment
