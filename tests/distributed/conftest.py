"""Process groups that all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .world import Worlds


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """``worlds[n].run(job, ...)`` runs a job on n gloo processes."""
    worlds = Worlds(tmp_path_factory.mktemp("stores"))
    yield worlds
    worlds.close()
