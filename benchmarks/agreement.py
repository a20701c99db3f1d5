"""Checks that shardplan and upstream give exactly the same results."""

from __future__ import annotations

import dataclasses
from typing import Any


class Disagreement(Exception):
    """shardplan and upstream differ, or a result is not the known answer."""


def exact(value: Any) -> Any:
    """Converts a value for comparison, with the classes of all its parts and with chunk indices.

    Upstream items compare equal whatever their chunk indices are, and a tuple equals a torch.Size.
    A LazyList counts as a list.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value), [exact(getattr(value, at.name)) for at in dataclasses.fields(value)]
    if isinstance(value, list):
        return list, [exact(item) for item in value]
    if isinstance(value, tuple):
        return type(value), [exact(item) for item in value]
    if isinstance(value, dict):
        return dict, [(exact(key), exact(item)) for key, item in value.items()]
    return type(value), value


def same(ours: Any, upstream: Any) -> bool:
    """Returns whether two results are exactly equal."""
    return bool(exact(ours) == exact(upstream))


def expect(holds: bool, what: str) -> None:
    """Raises ``Disagreement`` unless the condition holds."""
    if not holds:
        raise Disagreement(what)
