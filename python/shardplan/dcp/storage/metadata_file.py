"""Reads and writes the file of a ``Metadata``: upstream's pickle, large parts by native code."""

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
from ..lazy.items import Items
from ..lazy.path_mappings import Mappings
from ..lazy.storage_data import StorageData
from ..native import native

_PROTOCOL = 4
# What every record of a file names, in the order of csrc/core/metadata/metadata_writer.h.
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
    """What ``pickle.load`` gives, its large parts as columns.

    name: of the file, for errors
    trust: whether what names other globals than a checkpoint's metadata does is given to pickle

    Raises ``pickle.UnpicklingError``, which names the file and the byte.
    """
    start = stream.tell() if trust else 0
    try:
        return native.load_metadata(
            readinto_of(stream), Items.from_columns, StorageData.from_columns
        )
    except native.UnknownGlobal as error:
        if trust:
            fallbacks.whole("metadata file: it names other globals, and is trusted")
            stream.seek(start)
            return pickle.load(stream)
        raise pickle.UnpicklingError(
            f"{name} {error}; it was not loaded. If you trust who wrote it, pass "
            f"trust=True to shardplan.FileSystemReader, or to shardplan.register"
        ) from None
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(f"{name} cannot be read: it {error}") from None


def dump(metadata: Metadata, stream: io.BufferedIOBase) -> None:
    """Does what ``pickle.dump`` does: what is loaded is the same, of the same classes."""
    state = vars(metadata)
    saved = _saved(state.get("state_dict_metadata"))
    storage = _storage(state.get("storage_data"))
    if type(metadata) is not Metadata or (saved is None and storage is None):
        fallbacks.whole("metadata file: what it would hold is not read natively")
        pickle.dump(metadata, stream)
        return
    file = native.MetadataPickle(stream.write)
    properties = [] if saved is None else saved.properties
    # A class that no record names has an empty place, for the file must not name it either.
    named = zip(_CLASSES, file.named_classes(saved, storage), strict=True)
    kept = [cls if is_named else object() for cls, is_named in named]
    kept += [*_ATTRIBUTES, *_parts(properties)]
    pickles = [_opcodes(_fast_pickler([]), None if type(one) is object else one) for one in kept]
    file.keep(pickles)
    property_pickler = _fast_pickler(kept)
    of_properties = [_opcodes(property_pickler, one) for one in properties]
    # The names and paths, which nobody else asks the memo for.
    kept += [object() for _ in range(file.keep_texts(saved, storage))]
    pickler = _pickler(kept)
    file.raw(_opcodes(_fast_pickler([]), Metadata))
    file.raw(pickle.EMPTY_TUPLE + pickle.NEWOBJ + pickle.EMPTY_DICT + pickle.MARK)
    for name, value in state.items():
        file.raw(_opcodes(pickler, name))
        if name == "state_dict_metadata" and saved is not None:
            file.entries(saved, of_properties, [_opcodes(pickler, one) for one in saved.objects])
        elif name == "storage_data" and storage is not None:
            file.storage(storage)
        else:
            file.raw(_opcodes(pickler, plain(value)))
    file.raw(pickle.SETITEMS + pickle.BUILD)
    file.stop()


def plain(value: Any) -> Any:
    """The exact list or dict in the place of one of ours."""
    if type(value) is Items:
        return list(value)
    return dict(value.items()) if type(value) in (Mappings, StorageData) else value


def _saved(entries: Any) -> native.SavedMetadata | None:
    entries = plain(entries)
    return native.saved_metadata(entries) if type(entries) is dict else None


def _storage(data: Any) -> native.StorageColumns | None:
    if type(data) is StorageData and (columns := data.columns()) is not None:
        return columns
    data = plain(data)
    return native.storage_columns(data) if type(data) is dict else None


def _parts(properties: Iterable[TensorProperties]) -> list[Any]:
    """What properties are made of, each once."""
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


def _pickler(kept: list[Any]) -> _Pickler:
    """A pickler of parts of a file whose memo begins with what was kept."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, _PROTOCOL)
    pickler.buffer = buffer
    pickler.memo = {id(one): (at, one) for at, one in enumerate(kept)}
    return pickler


def _fast_pickler(kept: list[Any]) -> _Pickler:
    """The same, and it keeps nothing."""
    pickler = _pickler(kept)
    pickler.fast = True
    return pickler


def _opcodes(pickler: _Pickler, value: Any) -> bytes:
    """The opcodes that push a value."""
    pickler.buffer.seek(0)
    pickler.buffer.truncate()
    pickler.dump(value)
    return native.opcodes(pickler.buffer.getvalue())
