"""Reads and writes metadata files. They are upstream's pickles; native code handles large parts."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan

from ...diagnosis.streams import readinto_of
from .. import fallbacks
from ..lazy.items import LazyList
from ..lazy.path_mappings import LazyDict
from ..lazy.storage_data import StorageData
from ..native import native

_PROTOCOL = 4


def load(stream: io.BufferedIOBase, name: object, trust: bool) -> Any:
    """Loads what ``pickle.load`` would, with lazy chunk lists and storage_data.

    Args:
        stream: the file, opened for reading; seekable if ``trust``.
        name: name of the file, for error messages.
        trust: if true, metadata that names unknown globals is loaded with ``pickle``, which can run
            arbitrary code; otherwise it is rejected.

    Raises:
        pickle.UnpicklingError: the file is broken or rejected. The message has the file and the
            byte offset.
    """
    start = stream.tell() if trust else 0
    try:
        return native.load_metadata(
            readinto_of(stream), LazyList.from_columns, StorageData.from_columns
        )
    except native.UnknownGlobal as error:
        if trust:
            fallbacks.count_operation("metadata file: it names unknown globals and is trusted")
            stream.seek(start)
            return pickle.load(stream)
        raise pickle.UnpicklingError(
            f"{name} {error}; it was not loaded. If you trust its author, pass trust=True to "
            f"shardplan.FileSystemReader or shardplan.register"
        ) from None
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(f"{name} cannot be read: it {error}") from None


def dump(metadata: Metadata, stream: io.BufferedIOBase) -> None:
    """Writes a pickle that loads as the same objects, of the same classes, as ``pickle.dump``'s.

    Args:
        metadata: the metadata; its lists and dicts may be lazy.
        stream: the file, opened for writing.
    """
    state = vars(metadata)
    saved = _saved_columns(state.get("state_dict_metadata"))
    storage = _storage_columns(state.get("storage_data"))
    if type(metadata) is not Metadata or (saved is None and storage is None):
        fallbacks.count_operation("metadata file: native code cannot read the metadata to write")
        pickle.dump(metadata, stream)
        return
    columns = {"state_dict_metadata": saved, "storage_data": storage}
    parts = {
        name: _part(value) if columns.get(name) is None else columns[name]
        for name, value in state.items()
    }
    native.write_metadata(stream.write, parts, _make_pickler, _property_parts)


def to_builtin(value: Any) -> Any:
    """Returns an exact ``list`` or ``dict`` for a lazy one, and any other value unchanged."""
    if type(value) is LazyList:
        return list(value)
    return dict(value.items()) if type(value) in (LazyDict, StorageData) else value


def _part(value: Any) -> Any:
    """Returns columns for a list of plans, and any other value unchanged."""
    is_plans = type(value) is list and value and type(value[0]) is SavePlan
    if not is_plans:
        return value
    plans = native.kept_plans(value)
    if plans is None:
        fallbacks.count_operation("metadata file: plans in it are pickled as objects")
        return value
    return plans


def _saved_columns(entries: Any) -> native.SavedMetadata | None:
    entries = to_builtin(entries)
    return native.saved_metadata(entries) if type(entries) is dict else None


def _storage_columns(data: Any) -> native.StorageColumns | None:
    if type(data) is StorageData and (columns := data.columns()) is not None:
        return columns
    data = to_builtin(data)
    return native.storage_columns(data) if type(data) is dict else None


def _property_parts(properties: Iterable[TensorProperties]) -> list[Any]:
    """Returns the objects to memoize for properties: their class, and each state value once."""
    parts: dict[int, Any] = {}
    for one in properties:
        parts[id(TensorProperties)] = TensorProperties
        state = one.__getstate__()
        for part in state if isinstance(state, tuple) else ():
            if not isinstance(part, (bool, int, tuple, type(None))):
                parts.setdefault(id(part), part)
    return list(parts.values())


def _make_pickler(memoized: list[Any], fast: bool) -> Callable[[Any], bytes]:
    """Returns a function that pickles parts of a file.

    Args:
        memoized: the objects in the first slots of the memo.
        fast: if true, the pickler memoizes no other object.
    """
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, _PROTOCOL)
    pickler.memo = {id(one): (slot, one) for slot, one in enumerate(memoized)}
    pickler.fast = fast

    def push(value: Any) -> bytes:
        buffer.seek(0)
        buffer.truncate()
        pickler.dump(to_builtin(value))
        return buffer.getvalue()

    return push
