"""Whether ours and upstream gave exactly the same."""

from __future__ import annotations

import dataclasses
from typing import Any


class Disagreement(Exception):
    """Ours and upstream differ, or an answer is not what is known to be true."""


def exact(value: Any) -> Any:
    """A value to compare: class and content of it and all in it, index hints included.

    Upstream items compare equal whatever their hints, and a tuple equals a torch.Size. A list that
    fills itself counts as a list.
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
    """Whether two results are exactly equal."""
    return bool(exact(ours) == exact(upstream))


def expect(holds: bool, what: str) -> None:
    """Raises ``Disagreement`` unless it holds."""
    if not holds:
        raise Disagreement(what)
