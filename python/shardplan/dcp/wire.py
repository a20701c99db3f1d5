"""How plans and metadata travel between ranks: as columns, and elsewhere as upstream's objects.

torch sends every object that a collective carries through one pickler,
``torch.distributed.distributed_c10d._pickler``. Ours is a subclass in its place, whose private
dispatch table packs ``SavePlan`` and ``LoadPlan``, of their subclasses the items that nobody has
touched, write results and ``Metadata``; every other pickle (a file, a copy, a pipe) stays
upstream's.

Nothing here raises while it pickles or unpickles, for DCP does both where an error would leave the
other ranks waiting: what cannot be packed travels as upstream's, and what arrives broken says so at
first use.
"""

from __future__ import annotations

import copyreg
import logging
import operator
import pickle
import threading
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

from .. import _wire as received
from . import fallbacks
from .lazy.items import Items
from .lazy.path_mappings import Mappings
from .lazy.storage_data import StorageData
from .native import native
from .storage.metadata_file import plain

logger = logging.getLogger(__name__)

Reduced = tuple[Any, ...]

_lock = threading.Lock()
_refused = False


def _reduce_as_upstream(obj: Any) -> Reduced:
    """How an upstream dataclass pickles by itself, with exact lists and dicts in it."""
    state = {name: plain(value) for name, value in vars(obj).items()}
    return copyreg.__newobj__, (type(obj),), state  # type: ignore[attr-defined]


def _copy(obj: Any) -> Any:
    """A shallow copy, which shares what the object holds."""
    cls: Any = type(obj)
    copied = cls.__new__(cls)
    vars(copied).update(vars(obj))
    return copied


class _Copier:
    """``__copy__`` of the classes that ``_reduce_as_upstream`` pickles, not of subclasses."""

    def __get__(self, obj: object, cls: type) -> Callable[[Any], Any]:
        if cls not in _HOLDERS:
            raise AttributeError("__copy__")
        return _copy


# What holds a lazy list or dict as an attribute is pickled with an exact one in its place: no file
# names a class of ours, nor what would make one.
_HOLDERS: tuple[Any, ...] = (SavePlan, LoadPlan, Metadata, TensorStorageMetadata)
_COPIER = _Copier()


def _pack_save_plan(plan: SavePlan) -> Reduced:
    rest = dict(vars(plan))
    mappings = rest["planner_data"]
    source: Any = mappings.source if type(mappings) is Mappings else None
    packed = native.pack_save(rest.pop("items"), None if source is not None else mappings, source)
    if packed is None:
        fallbacks.whole("wire: an item of a save plan, or a name, cannot be packed")
        return _reduce_as_upstream(plan)
    data, foreign, mapped = packed
    if foreign:
        fallbacks.entry("wire: an item of a save plan travels as an object", len(foreign))
    if mapped:
        del rest["planner_data"]
    return received.save_plan, (data, foreign, {name: plain(value) for name, value in rest.items()})


def _pack_load_plan(plan: LoadPlan) -> Reduced:
    rest = dict(vars(plan))
    packed = native.pack_load(rest.pop("items"))
    if packed is None:
        fallbacks.whole("wire: an item of a load plan cannot be packed")
        return _reduce_as_upstream(plan)
    if packed[1]:
        fallbacks.entry("wire: an item of a load plan travels as an object", len(packed[1]))
    return received.load_plan, (*packed, rest)


def _pack_items(items: Items) -> Reduced:
    """Write results; or the items of a subclass of a plan, which itself travels as upstream's."""
    source: Any = items.columns
    if isinstance(source, (native.SaveColumns, native.ReceivedSave)):
        packed_save = native.pack_save(items, None, None)
        if packed_save is not None:
            return received.save_items, packed_save[:2]
    if isinstance(source, (native.LoadColumns, native.ReceivedLoad)):
        packed_load = native.pack_load(items)
        if packed_load is not None:
            return received.load_items, packed_load
    if source is None or isinstance(source, native.ReceivedStorage):
        packed_results = native.pack_results(items, source)
        if packed_results is not None:
            return received.results, (packed_results,)
    fallbacks.whole("wire: the items of a plan, or write results, cannot be packed")
    return items.__reduce_ex__(_PROTOCOL)


def _pack_metadata(sent: Metadata) -> Reduced:
    rest = dict(vars(sent))
    entries = plain(rest["state_dict_metadata"])
    packed = native.pack_saved_metadata(entries) if type(entries) is dict else None
    if packed is None:
        fallbacks.whole("wire: an entry of a Metadata cannot be packed")
        # What is lazy in it travels as columns by itself.
        return copyreg.__newobj__, (type(sent),), rest  # type: ignore[attr-defined]
    rest["state_dict_metadata"] = None
    return received.metadata, (*packed, rest)


def _pack_storage_data(data: StorageData) -> Reduced:
    columns = data.columns()
    packed = None if columns is None else native.pack_storage(columns)
    if packed is not None:
        return received.storage_data, (packed,)
    fallbacks.whole("wire: a storage_data that a caller changed, or a name, cannot be packed")
    return data.__reduce_ex__(_PROTOCOL)


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:
        return type(error).__name__


def _packing(
    pack: Callable[[Any], Reduced],
    unpickle: Callable[..., Any],
    otherwise: Callable[[Any], Reduced],
) -> Any:
    """For the dispatch table: packs, or gives upstream's pickle, or one that says why not."""

    def reduce(obj: Any) -> Reduced:
        try:
            return pack(obj)
        except Exception:
            logger.debug("a %s travels as upstream's", type(obj).__name__, exc_info=True)
            fallbacks.whole(f"wire: a {type(obj).__name__} raised while it was packed")
        try:
            return otherwise(obj)
        except Exception as error:
            return unpickle, (_text(error),)

    return reduce


class Pickler(pickle.Pickler):
    """The pickler of torch's collectives, by which plans travel as columns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A plain dict: the C pickler looks it up for every object, without calling Python.
        self.dispatch_table = {**copyreg.dispatch_table, **_PACKED}


_PROTOCOL = 4
_as_upstream = operator.methodcaller("__reduce_ex__", _PROTOCOL)
_PACKED: dict[type, Callable[[Any], Reduced]] = {
    SavePlan: _packing(_pack_save_plan, received.save_plan, _reduce_as_upstream),
    LoadPlan: _packing(_pack_load_plan, received.load_plan, _reduce_as_upstream),
    Metadata: _packing(_pack_metadata, received.metadata, _reduce_as_upstream),
    Items: _packing(_pack_items, received.save_items, _as_upstream),
    Mappings: _packing(_as_upstream, received.mappings, _as_upstream),
    StorageData: _packing(_pack_storage_data, received.storage_data, _as_upstream),
}


def install() -> None:
    """Lets plans travel as columns, unless ``refuse`` was called, and pickle as upstream's."""
    with _lock:
        for cls in _HOLDERS:
            # What somebody else has put there stays.
            if copyreg.dispatch_table.setdefault(cls, _reduce_as_upstream) is _reduce_as_upstream:
                cls.__copy__ = _COPIER
        if not _refused and getattr(dist.distributed_c10d, "_pickler", None) is pickle.Pickler:
            dist.distributed_c10d._pickler = Pickler


def uninstall() -> None:
    """Puts back what ``install`` changed."""
    with _lock:
        for cls in _HOLDERS:
            if copyreg.dispatch_table.get(cls) is _reduce_as_upstream:
                del copyreg.dispatch_table[cls]
            if vars(cls).get("__copy__") is _COPIER:
                del cls.__copy__
        _uninstall_pickler()


def _uninstall_pickler() -> None:
    if getattr(dist.distributed_c10d, "_pickler", None) is Pickler:
        dist.distributed_c10d._pickler = pickle.Pickler


def refuse(refused: bool) -> None:
    """Whether ``install`` is to do nothing."""
    global _refused
    with _lock:
        _refused = refused
        if refused:
            _uninstall_pickler()


def refused() -> bool:
    """Whether a user has asked that plans travel as torch sends them."""
    return _refused
