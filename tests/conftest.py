"""Hypothesis profiles, and the fixtures that every kind of test uses."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from parity.implementations import NAMES, Implementation, chosen

# Use HYPOTHESIS_PROFILE=million for a nightly run, and quick during development.
settings.register_profile("default", max_examples=2_000, deadline=None, print_blob=True)
settings.register_profile("million", settings.get_profile("default"), max_examples=1_000_000)
settings.register_profile("quick", settings.get_profile("default"), max_examples=50)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
# The pytest runs that tests start are not workers of this one.
os.environ.pop("PYTEST_XDIST_WORKER", None)


@pytest.fixture(params=NAMES)
def implementation(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Upstream, shardplan, and upstream's names after register()."""
    with chosen(request.param) as implementation:
        yield implementation


def registration() -> object:
    registry = sys.modules.get("shardplan.dcp.registration.registry")
    return None if registry is None else registry._current


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    """Functions that stay in torch's modules would replace upstream in the next test."""
    before = registration()
    yield
    if before is None and registration() is not None:
        sys.modules["shardplan.dcp.registration.registry"].unregister()
        pytest.fail("the test left shardplan registered")
