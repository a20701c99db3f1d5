"""The table of twins: the native replacement of each upstream function.

A function enters the table where it is defined, by ``@twin_of(originals.name)``. ``register()``,
the pytest plugin and the tests read the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_twins: dict[Callable[..., Any], Callable[..., Any]] = {}


def twin_of(original: Callable[..., Any]) -> Callable[[F], F]:
    """Decorator that declares a function as the twin of the upstream function ``original``.

    Raises:
        ValueError: ``original`` already has a twin.
    """

    def declare(ours: F) -> F:
        if original in _twins:
            raise ValueError(f"{original.__qualname__} already has a twin")
        _twins[original] = ours
        return ours

    return declare


def twins() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Returns a new dict of upstream function -> twin."""
    return dict(_twins)
