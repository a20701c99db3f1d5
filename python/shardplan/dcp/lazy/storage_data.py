"""``Metadata.storage_data``: a dict that answers lookups without making all that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch.distributed.checkpoint.storage import WriteResult

from .. import fallbacks
from ..native import native
from .items import Items
from .materialize import fill_before, lock


class Source(Protocol):
    """Where a storage_data comes from."""

    def __len__(self) -> int: ...

    def columns(self) -> native.StorageColumns: ...


class StorageData(dict[Any, Any]):
    """MetadataIndex -> _StorageInfo: a real dict, made at the first touch that needs all of it.

    ``len``, ``in``, ``get`` and ``[]`` make no more than what they give. Once filled, the dict is
    the truth: it forgets its columns, and what a caller changes is what is written or sent.
    """

    __slots__ = ("_made", "_source")

    _source: Source | None
    _made: dict[int, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._source = None
        self._made = {}

    @classmethod
    def from_columns(cls, source: Source) -> StorageData:
        """A dict of what ``source`` has."""
        data = cls()
        # C code that looks inside finds one odd entry, never an empty dict.
        dict.__setitem__(data, "<not read yet>", ())
        data._source = source
        return data

    def columns(self) -> native.StorageColumns | None:
        """The columns that say all that the dict says, or None. Fills the dict where a caller has
        changed what it was given."""
        source = self._source
        if source is None:
            return None
        columns = source.columns()
        if all(columns.says(row, place) for row, place in list(self._made.items())):
            return columns
        self._fill()
        return None

    def _fill(self) -> None:
        with lock():
            if self._source is None:
                return
            pairs = self._source.columns().pairs(self._made)
            dict.clear(self)
            dict.update(self, pairs)
            self._source = None
            self._made = {}

    def _find(self, key: Any) -> int | None:
        """Its row, -1 for no row; None where only the filled dict can tell."""
        source = self._source
        if source is not None:
            row = source.columns().find(key)
            if row is not None:
                return row
            self._fill()
        return None

    def _place(self, row: int) -> Any:
        with lock():
            if self._source is not None and row not in self._made:
                self._made[row] = self._source.columns().place(row)
            return self._made.get(row)

    def __len__(self) -> int:
        source = self._source
        return dict.__len__(self) if source is None else len(source)

    def __contains__(self, key: object) -> bool:
        row = self._find(key)
        return dict.__contains__(self, key) if row is None else row >= 0

    def __getitem__(self, key: Any) -> Any:
        row = self._find(key)
        if row is not None and row >= 0 and (place := self._place(row)) is not None:
            return place
        if row == -1:
            raise KeyError(key)
        return dict.__getitem__(self, key)

    def get(self, key: Any, default: Any = None, /) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __reduce_ex__(self, protocol: Any, /) -> tuple[Any, ...]:
        self._fill()
        return dict, (dict(self.items()),)


fill_before(
    StorageData, dict, but={"__contains__", "__getitem__", "__len__", "__reduce_ex__", "get"}
)


def merge(results: Sequence[list[WriteResult]]) -> dict[Any, Any]:
    """The storage_data of all ranks' results.

    Answers to what ``FileSystemWriter.finish`` makes of them.
    """
    plain = all(isinstance(of_rank, list) for of_rank in results)
    sources = [of_rank.columns if type(of_rank) is Items else None for of_rank in results]
    columns = native.merge_results(list(results), sources) if plain else None
    if columns is not None:
        return StorageData.from_columns(columns)
    fallbacks.whole("write results: a result is not one of upstream's")
    data: dict[Any, Any] = {}
    for of_rank in results:
        data.update({result.index: result.storage_data for result in of_rank})
    return data
