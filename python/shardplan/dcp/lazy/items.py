"""A list that fills itself when it is first touched: of a plan's items, of a tensor's chunks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from .materialize import fill_before, lock


class Source(Protocol):
    """Columns that items can be made from."""

    def __len__(self) -> int: ...

    def items(self) -> list[Any]: ...


class _Unfilled:
    """Stands in a list's slots until it is filled.

    Python code never meets it: every method of the list materializes it first. C code that takes a
    list's insides does (heapq, ``list.sort(items)``, ``upstream_list + items``), and fails here
    instead of reading an empty plan.
    """

    __slots__ = ()

    def _refuse(self, *_: object) -> Any:
        raise TypeError(
            "a plan's items, or a tensor's chunks, were taken by C code before they were made; "
            "use list(...) of them, or any method of theirs, first"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    # What `isinstance` asks: a bypass that filters by class must not lose items in silence.
    __class__ = property(_refuse)
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __hash__ = __iter__ = __len__ = __bool__ = __call__ = __reduce_ex__ = _refuse

    def __repr__(self) -> str:
        return "<item not made yet>"


_UNFILLED = _Unfilled()


class Items(list[Any]):
    """A plan's items: a real list, whose items are made at first touch.

    ``len`` and truth make nothing. Once touched, the list is the truth: it forgets its columns, and
    what a caller changes is what is sent. Two threads that touch it fill it once.
    """

    __slots__ = ("_source",)

    _source: Source | None

    def __init__(self, iterable: Iterable[Any] = (), /) -> None:
        super().__init__(iterable)
        self._source = None

    @classmethod
    def from_columns(cls, source: Source) -> Items:
        """Items that will be made from ``source`` when they are first touched."""
        items = cls.__new__(cls)
        if length := len(source):
            list.append(items, _UNFILLED)
            list.__imul__(items, length)
        items._source = source
        return items

    @property
    def columns(self) -> Source | None:
        """The columns that nobody has touched yet, or None."""
        return self._source

    def _fill(self) -> None:
        with lock():
            if self._source is None:
                return
            made = self._source.items()
            if list.__len__(self) != len(made):
                raise RuntimeError(
                    "a plan's items, or a tensor's chunks, were resized by C code before they "
                    "were made"
                )
            list.__setitem__(self, slice(None), made)
            self._source = None

    def __reduce_ex__(self, protocol: Any, /) -> tuple[Any, ...]:
        self._fill()
        return list, (list(self),)


fill_before(Items, list, but={"__len__", "__reduce_ex__"})
