"""Reads and writes metadata files. They are upstream's pickles; native code handles large parts."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from ...diagnosis.streams import readinto_of
from .. import fallbacks
from ..lazy.items import LazyList
from ..lazy.path_mappings import LazyDict
from ..lazy.storage_data import StorageData
from ..native import native

_PROTOCOL = 4
# Classes and attributes used by every record, in the order of csrc/core/metadata/metadata_writer.h.
_CLASSES = (
    torch.Size,
    ChunkStorageMetadata,
    TensorStorageMetadata,
    BytesStorageMetadata,
    MetadataIndex,
    _StorageInfo,
)
_ATTRIBUTES = (
    "offsets",
    "sizes",
    "properties",
    "size",
    "chunks",
    "fqn",
    "index",
    "offset",
    "relative_path",
    "length",
)


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
    file = native.MetadataPickle(stream.write)
    properties = [] if saved is None else saved.properties
    # A class that no record uses gets an unused memo slot, because the file must not name it.
    named = zip(_CLASSES, file.named_classes(saved, storage), strict=True)
    memoized = [cls if is_named else object() for cls, is_named in named]
    memoized += [*_ATTRIBUTES, *_property_parts(properties)]
    pickles = [
        _opcodes(_fast_pickler([]), None if type(one) is object else one) for one in memoized
    ]
    file.keep(pickles)
    property_pickler = _fast_pickler(memoized)
    property_opcodes = [_opcodes(property_pickler, one) for one in properties]
    # Memo slots of names and paths; only native records refer to them.
    memoized += [object() for _ in range(file.keep_texts(saved, storage))]
    pickler = _pickler(memoized)
    file.raw(_opcodes(_fast_pickler([]), Metadata))
    file.raw(pickle.EMPTY_TUPLE + pickle.NEWOBJ + pickle.EMPTY_DICT + pickle.MARK)
    for name, value in state.items():
        file.raw(_opcodes(pickler, name))
        if name == "state_dict_metadata" and saved is not None:
            file.entries(saved, property_opcodes, [_opcodes(pickler, one) for one in saved.objects])
        elif name == "storage_data" and storage is not None:
            file.storage(storage)
        else:
            file.raw(_opcodes(pickler, to_builtin(value)))
    file.raw(pickle.SETITEMS + pickle.BUILD)
    file.stop()


def to_builtin(value: Any) -> Any:
    """Returns an exact ``list`` or ``dict`` for a lazy one, and any other value unchanged."""
    if type(value) is LazyList:
        return list(value)
    return dict(value.items()) if type(value) in (LazyDict, StorageData) else value


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


class _Pickler(pickle.Pickler):
    buffer: io.BytesIO


def _pickler(memoized: list[Any]) -> _Pickler:
    """Returns a pickler of parts of a file, with ``memoized`` in the first slots of its memo."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, _PROTOCOL)
    pickler.buffer = buffer
    pickler.memo = {id(one): (at, one) for at, one in enumerate(memoized)}
    return pickler


def _fast_pickler(memoized: list[Any]) -> _Pickler:
    """Returns a pickler like ``_pickler``'s that memoizes nothing more."""
    pickler = _pickler(memoized)
    pickler.fast = True
    return pickler


def _opcodes(pickler: _Pickler, value: Any) -> bytes:
    """Returns the opcodes that push a value onto the stack."""
    pickler.buffer.seek(0)
    pickler.buffer.truncate()
    pickler.dump(value)
    return native.opcodes(pickler.buffer.getvalue())
