"""What our list and our dicts, which make what they hold at first touch, have in common."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any

# One for all: what fills them is made under the interpreter's own lock anyway.
_lock = threading.RLock()


def lock() -> threading.RLock:
    """Held while one of our lists or dicts fills itself."""
    return _lock


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)

# Of the methods of list and dict, those that look at nothing in it.
_UNTOUCHING = {
    "__class_getitem__",
    "__getattribute__",
    "__hash__",
    "__init__",
    "__new__",
    "__sizeof__",
    "fromkeys",
}


def _filling(ours: type, base: type, name: str) -> Any:
    method = getattr(base, name)

    def fill_first(self: Any, *args: Any, **kwargs: Any) -> Any:
        for each in (self, *args):
            if isinstance(each, ours) and each._source is not None:  # type: ignore[attr-defined]
                each._fill()  # type: ignore[attr-defined]
        return method(self, *args, **kwargs)

    fill_first.__name__ = name
    fill_first.__qualname__ = f"{ours.__name__}.{name}"
    fill_first.__doc__ = method.__doc__
    return fill_first


def fill_before(ours: type, base: type, but: Iterable[str] = ()) -> None:
    """Makes every method of ``base`` call ``_fill`` of ``ours`` first, but those named, and those
    that look at nothing."""
    for name in vars(base):
        if callable(getattr(base, name, None)) and name not in _UNTOUCHING and name not in but:
            setattr(ours, name, _filling(ours, base, name))
