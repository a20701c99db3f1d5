"""Which function of ours answers to which of upstream's.

``register()``, the pytest plugin and the tests work on this table; a function enters it where it is
defined, by ``@answers(originals.name)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_twins: dict[Callable[..., Any], Callable[..., Any]] = {}


def answers(original: Callable[..., Any]) -> Callable[[F], F]:
    """Declares that the decorated function takes the place of upstream's ``original``."""

    def declare(ours: F) -> F:
        if original in _twins:
            raise ValueError(f"{original.__qualname__} has two twins")
        _twins[original] = ours
        return ours

    return declare


def twins() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Our function for each of upstream's that has one: upstream's -> ours."""
    return dict(_twins)
