"""A lazy dict for ``Metadata.storage_data``. Lookups do not materialize all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch.distributed.checkpoint.storage import WriteResult

from .. import fallbacks
from ..native import native
from .items import LazyList
from .materialize import lock, materialize_before


class Source(Protocol):
    """A source of storage columns: the columns themselves, or a received message."""

    def __len__(self) -> int: ...

    def columns(self) -> native.StorageColumns: ...


class StorageData(dict[Any, Any]):
    """A lazy ``dict`` of ``MetadataIndex`` -> ``_StorageInfo``.

    ``len``, ``in``, ``get`` and ``[]`` materialize only the values that they return; any other
    method materializes the whole dict. The dict then drops its columns, so that a caller's changes
    are written and sent.
    """

    __slots__ = ("_materialized", "_source")

    _source: Source | None
    _materialized: dict[int, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._source = None
        self._materialized = {}

    @classmethod
    def from_columns(cls, source: Source) -> StorageData:
        """Returns a lazy dict of the rows of ``source``."""
        data = cls()
        # C code that bypasses the methods sees this placeholder instead of an empty dict.
        dict.__setitem__(data, "<not materialized>", ())
        data._source = source
        return data

    def columns(self) -> native.StorageColumns | None:
        """Returns the columns if they still equal the dict, else None.

        Materializes the dict if a caller has changed a value that a lookup returned.
        """
        source = self._source
        if source is None:
            return None
        columns = source.columns()
        if all(
            columns.matches(row, location) for row, location in list(self._materialized.items())
        ):
            return columns
        self._materialize()
        return None

    def _materialize(self) -> None:
        with lock:
            if self._source is None:
                return
            pairs = self._source.columns().pairs(self._materialized)
            dict.clear(self)
            dict.update(self, pairs)
            self._source = None
            self._materialized = {}

    def _find(self, key: Any) -> int | None:
        """Returns the row of a key, -1 if there is none, or None after materializing the dict."""
        source = self._source
        if source is not None:
            row = source.columns().find(key)
            if row is not None:
                return row
            self._materialize()
        return None

    def _location(self, row: int) -> Any:
        with lock:
            if self._source is not None and row not in self._materialized:
                self._materialized[row] = self._source.columns().location(row)
            return self._materialized.get(row)

    def __len__(self) -> int:
        source = self._source
        return dict.__len__(self) if source is None else len(source)

    def __contains__(self, key: object) -> bool:
        row = self._find(key)
        return dict.__contains__(self, key) if row is None else row >= 0

    def __getitem__(self, key: Any) -> Any:
        row = self._find(key)
        if row is not None and row >= 0 and (location := self._location(row)) is not None:
            return location
        if row == -1:
            raise KeyError(key)
        return dict.__getitem__(self, key)

    def get(self, key: Any, default: Any = None, /) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __reduce_ex__(self, protocol: Any, /) -> tuple[Any, ...]:
        self._materialize()
        return dict, (dict(self.items()),)


materialize_before(
    StorageData, dict, except_for={"__contains__", "__getitem__", "__len__", "__reduce_ex__", "get"}
)


def merge(results: Sequence[list[WriteResult]]) -> dict[Any, Any]:
    """Merges the write results of all ranks into a storage_data.

    Args:
        results: the write results of each rank.

    Returns:
        The dict that ``FileSystemWriter.finish`` upstream builds from the same results; it is lazy
        if native code can read all of them.
    """
    plain = all(isinstance(rank_results, list) for rank_results in results)
    sources = [
        rank_results.columns if type(rank_results) is LazyList else None for rank_results in results
    ]
    columns = native.merge_results(list(results), sources) if plain else None
    if columns is not None:
        return StorageData.from_columns(columns)
    fallbacks.count_operation("write results: a result is not a WriteResult")
    data: dict[Any, Any] = {}
    for rank_results in results:
        data.update({result.index: result.storage_data for result in rank_results})
    return data


def file_sizes(data: dict[Any, Any]) -> dict[str, int]:
    """Returns the least size in bytes of each file that has data of a storage_data, by path."""
    columns = data.columns() if isinstance(data, StorageData) else None
    if columns is not None:
        return columns.file_sizes()
    sizes: dict[str, int] = {}
    for location in data.values():
        end = location.offset + location.length
        sizes[location.relative_path] = max(end, sizes.get(location.relative_path, 0))
    return sizes
