"""Dicts that fill themselves when they are first touched: mappings and metadata that arrived."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable
from typing import Any, Protocol

from .materialize import fill_before, lock


class Source(Protocol):
    """Where a dict arrived."""

    def mappings(self) -> dict[str, Any]:
        """Its entries; may be one dict for many of ours, not to be changed."""
        ...


class Mappings(dict[str, Any]):
    """A plan's ``planner_data``, or a ``state_dict_metadata``: a real dict, whose entries are made
    at first touch.

    Once touched, the dict is the truth: it forgets where it arrived, and what a caller changes is
    what is sent.
    """

    __slots__ = ("_source",)

    _source: Source | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._source = None

    @classmethod
    def arrived(cls, source: Source) -> Mappings:
        """Mappings that will be read from ``source`` when they are first touched."""
        mappings = cls()
        # C code that looks inside finds one odd entry, never an empty dict.
        dict.__setitem__(mappings, "<not read yet>", ())
        mappings._source = source
        return mappings

    @property
    def source(self) -> Source | None:
        """Where they arrived, if nobody has touched them yet, or None."""
        return self._source

    def _fill(self) -> None:
        with lock():
            if self._source is None:
                return
            entries = self._source.mappings()
            dict.clear(self)
            dict.update(self, entries)
            self._source = None

    def __reduce_ex__(self, protocol: Any, /) -> tuple[Any, ...]:
        self._fill()
        return dict, (dict(self.items()),)


fill_before(Mappings, dict, but={"__reduce_ex__"})


def _shared(mappings: dict[str, Any]) -> dict[str, Any]:
    """The dict that all mappings of one table have in common, while nobody has touched these."""
    source = mappings.source if type(mappings) is Mappings else None
    return mappings if source is None else source.mappings()


def merge(mappings: Iterable[Any]) -> dict[str, Any]:
    """What ``dict(ChainMap(*mappings))`` gives, key order included, equal ones merged once."""
    each = list(mappings)
    if not all(type(one) in (dict, Mappings) for one in each):
        return dict(ChainMap(*each))
    shared = [_shared(one) for one in each]
    # Keys in the order of the last mapping first; values of the first mapping that has them.
    by_last = {id(one): one for one in reversed(shared)}
    by_first = {id(one): one for one in shared}
    merged: dict[str, Any] = {}
    for one in by_last.values():
        merged.update(dict.fromkeys(one))
    for one in reversed(by_first.values()):
        merged.update(one)
    return merged
