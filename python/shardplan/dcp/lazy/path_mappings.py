"""A lazy dict. It holds received path mappings or received tensor metadata."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable
from typing import Any, Protocol

from .materialize import lock, materialize_before


class Source(Protocol):
    """A received message from which a dict can be decoded."""

    def mappings(self) -> dict[str, Any]:
        """Returns the decoded entries. Lazy dicts may share the result; do not modify it."""
        ...


class LazyDict(dict[str, Any]):
    """A lazy dict, which is a real ``dict`` whose entries are materialized at first access.

    It holds a plan's ``planner_data`` or a ``state_dict_metadata``. Once materialized, it drops its
    source, so that a caller's changes are sent.
    """

    __slots__ = ("_source",)

    _source: Source | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._source = None

    @classmethod
    def from_source(cls, source: Source) -> LazyDict:
        """Returns a lazy dict that materializes from ``source`` at first access."""
        mappings = cls()
        # C code that bypasses the methods sees this placeholder instead of an empty dict.
        dict.__setitem__(mappings, "<not materialized>", ())
        mappings._source = source
        return mappings

    @property
    def source(self) -> Source | None:
        """The source of a dict that is not materialized; None once it is."""
        return self._source

    def _materialize(self) -> None:
        with lock:
            if self._source is None:
                return
            entries = self._source.mappings()
            dict.clear(self)
            dict.update(self, entries)
            self._source = None

    def __reduce_ex__(self, protocol: Any, /) -> tuple[Any, ...]:
        self._materialize()
        return dict, (dict(self.items()),)


materialize_before(LazyDict, dict, except_for={"__reduce_ex__"})


def _shared(mappings: dict[str, Any]) -> dict[str, Any]:
    """Returns the decoded dict that all unmaterialized mappings of one source share."""
    source = mappings.source if type(mappings) is LazyDict else None
    return mappings if source is None else source.mappings()


def merge(mappings: Iterable[Any]) -> dict[str, Any]:
    """Returns ``dict(ChainMap(*mappings))``, key order included.

    Mappings that share a source are merged once.
    """
    each = list(mappings)
    if not all(type(one) in (dict, LazyDict) for one in each):
        return dict(ChainMap(*each))
    shared = [_shared(one) for one in each]
    # A ChainMap orders keys by the last mapping first, and takes values from the first mapping.
    by_last = {id(one): one for one in reversed(shared)}
    by_first = {id(one): one for one in shared}
    merged: dict[str, Any] = {}
    for one in by_last.values():
        merged.update(dict.fromkeys(one))
    for one in reversed(by_first.values()):
        merged.update(one)
    return merged
