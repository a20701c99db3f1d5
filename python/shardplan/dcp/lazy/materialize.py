"""Materialization, shared by the lazy list and the lazy dicts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..locks import ForkSafeLock

# Held while a lazy list or dict materializes. One lock serves all of them: native code materializes
# under the interpreter lock anyway.
lock = ForkSafeLock()

# Methods of list and dict that do not read the contents.
_NOT_MATERIALIZING = {
    "__class_getitem__",
    "__getattribute__",
    "__hash__",
    "__init__",
    "__new__",
    "__sizeof__",
    "fromkeys",
}


def _materializing(ours: type, base: type, name: str) -> Any:
    method = getattr(base, name)

    def materialize_first(self: Any, *args: Any, **kwargs: Any) -> Any:
        for each in (self, *args):
            if isinstance(each, ours) and each._source is not None:  # type: ignore[attr-defined]
                each._materialize()  # type: ignore[attr-defined]
        return method(self, *args, **kwargs)

    materialize_first.__name__ = name
    materialize_first.__qualname__ = f"{ours.__name__}.{name}"
    materialize_first.__doc__ = method.__doc__
    return materialize_first


def materialize_before(ours: type, base: type, except_for: Iterable[str] = ()) -> None:
    """Overrides the methods of ``base`` in ``ours`` so that they call ``_materialize`` first.

    Methods in ``except_for`` and methods that do not read the contents are not overridden.
    """
    for name in vars(base):
        if (
            callable(getattr(base, name, None))
            and name not in _NOT_MATERIALIZING
            and name not in except_for
        ):
            setattr(ours, name, _materializing(ours, base, name))
