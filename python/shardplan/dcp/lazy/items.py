"""A lazy list. It holds the items of a plan, the chunks of a tensor, or write results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from .materialize import lock, materialize_before


class Source(Protocol):
    """Columns from which items can be materialized."""

    def __len__(self) -> int: ...

    def items(self) -> list[Any]: ...


class _Placeholder:
    """Occupies the slots of a lazy list until the list is materialized.

    Python code never sees it, because every method of the list materializes the list first. C code
    that reads the list's storage directly (heapq, ``list.sort(items)``, ``upstream_list + items``)
    does see it, and raises here instead of reading an empty plan.
    """

    __slots__ = ()

    def _raise(self, *_: object) -> Any:
        raise TypeError(
            "C code read a lazy list of plan items or chunks before it was materialized; "
            "call list(...) on it, or any of its methods, first"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._raise()

    # `isinstance` reads this; code that filters by class must not drop items silently.
    __class__ = property(_raise)
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _raise
    __hash__ = __iter__ = __len__ = __bool__ = __call__ = __reduce_ex__ = _raise

    def __repr__(self) -> str:
        return "<item not materialized>"


_PLACEHOLDER = _Placeholder()


class LazyList(list[Any]):
    """A lazy list, which is a real ``list`` whose items are materialized at first access.

    ``len`` and truth tests do not materialize it. Once materialized, the list drops its columns, so
    that a caller's changes are sent. Concurrent access from two threads materializes it once.
    """

    __slots__ = ("_source",)

    _source: Source | None

    def __init__(self, iterable: Iterable[Any] = (), /) -> None:
        super().__init__(iterable)
        self._source = None

    @classmethod
    def from_columns(cls, source: Source) -> LazyList:
        """Returns a lazy list that materializes from ``source`` at first access."""
        items = cls.__new__(cls)
        if length := len(source):
            list.append(items, _PLACEHOLDER)
            list.__imul__(items, length)
        items._source = source
        return items

    @property
    def columns(self) -> Source | None:
        """The columns of a list that is not materialized; None once it is."""
        return self._source

    def _materialize(self) -> None:
        with lock:
            if self._source is None:
                return
            made = self._source.items()
            if list.__len__(self) != len(made):
                raise RuntimeError(
                    f"C code resized a lazy list of plan items or chunks from {len(made)} to "
                    f"{list.__len__(self)} before it was materialized"
                )
            list.__setitem__(self, slice(None), made)
            self._source = None

    def __reduce_ex__(self, protocol: Any, /) -> tuple[Any, ...]:
        self._materialize()
        return list, (list(self),)


materialize_before(LazyList, list, except_for={"__len__", "__reduce_ex__"})
