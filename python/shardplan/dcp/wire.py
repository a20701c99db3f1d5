"""The wire format: ranks send plans and metadata as columns.

torch pickles all objects of collectives with ``torch.distributed.distributed_c10d._pickler``.
``install`` replaces it with a subclass whose private dispatch table encodes ``SavePlan``,
``LoadPlan``, ``Metadata``, write results, and the lazy items of subclasses of plans. All other
pickles (files, copies, pipes) stay upstream's.

Pickling and unpickling here never raise, because DCP does both where an exception would leave the
other ranks waiting. Objects that cannot be encoded are sent as upstream pickles them. A received
message that is broken raises at first access.
"""

from __future__ import annotations

import copyreg
import functools
import importlib
import importlib.util
import io
import itertools
import logging
import operator
import pickle
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

from .. import _wire as received
from . import fallbacks
from .lazy.items import LazyList
from .lazy.path_mappings import LazyDict
from .lazy.storage_data import StorageData
from .locks import ForkSafeLock
from .native import native
from .storage.metadata_file import to_builtin

logger = logging.getLogger(__name__)

Reduced = tuple[Any, ...]

_lock = ForkSafeLock()
_is_refused = False


def _reduce_as_upstream(obj: Any) -> Reduced:
    """Reduces an upstream dataclass as pickle does, with plain lists and dicts for lazy ones."""
    state = {name: to_builtin(value) for name, value in vars(obj).items()}
    return copyreg.__newobj__, (type(obj),), state  # type: ignore[attr-defined]


def _copy(obj: Any) -> Any:
    """Returns a shallow copy."""
    cls: Any = type(obj)
    copied = cls.__new__(cls)
    vars(copied).update(vars(obj))
    return copied


class _Copier:
    """A descriptor for ``__copy__`` of the classes in ``_HOLDERS``, but not of their subclasses."""

    def __get__(self, obj: object, cls: type) -> Callable[[Any], Any]:
        if cls not in _HOLDERS:
            raise AttributeError("__copy__")
        return _copy


# Upstream classes that can hold a lazy list or dict. They are pickled with a plain list or dict, so
# that files name no class of shardplan.
_HOLDERS: tuple[Any, ...] = (SavePlan, LoadPlan, Metadata, TensorStorageMetadata)
_COPIER = _Copier()


def _pack_save_plan(plan: SavePlan) -> Reduced:
    rest = dict(vars(plan))
    mappings = rest["planner_data"]
    source: Any = mappings.source if type(mappings) is LazyDict else None
    packed = native.pack_save(rest.pop("items"), None if source is not None else mappings, source)
    if packed is None:
        fallbacks.count_operation("wire: an item or a name of a save plan cannot be encoded")
        return _reduce_as_upstream(plan)
    data, objects, has_mappings = packed
    if objects:
        fallbacks.count_entries("wire: an item of a save plan is sent as an object", len(objects))
    if has_mappings:
        del rest["planner_data"]
    return received.save_plan, (
        data,
        objects,
        {name: to_builtin(value) for name, value in rest.items()},
    )


def _pack_load_plan(plan: LoadPlan) -> Reduced:
    rest = dict(vars(plan))
    packed = native.pack_load(rest.pop("items"))
    if packed is None:
        fallbacks.count_operation("wire: an item of a load plan cannot be encoded")
        return _reduce_as_upstream(plan)
    if packed[1]:
        fallbacks.count_entries("wire: an item of a load plan is sent as an object", len(packed[1]))
    return received.load_plan, (*packed, rest)


def _pack_items(items: LazyList) -> Reduced:
    """Encodes write results, or the items of a subclass of a plan.

    The subclass itself is sent as upstream pickles it.
    """
    source: Any = items.columns
    if isinstance(source, (native.SaveColumns, native.ReceivedSave)):
        packed_save = native.pack_save(items, None, None)
        if packed_save is not None:
            return received.save_items, packed_save[:2]
    if isinstance(source, (native.LoadColumns, native.ReceivedLoad)):
        packed_load = native.pack_load(items)
        if packed_load is not None:
            return received.load_items, packed_load
    if source is None or isinstance(source, (native.ReceivedStorage, native.SavedResults)):
        packed_results = native.pack_results(items, source)
        if packed_results is not None:
            return received.results, (packed_results,)
    fallbacks.count_operation("wire: the items of a plan or write results cannot be encoded")
    return items.__reduce_ex__(_PROTOCOL)


def _pack_metadata(sent: Metadata) -> Reduced:
    rest = dict(vars(sent))
    entries = to_builtin(rest["state_dict_metadata"])
    packed = native.pack_saved_metadata(entries) if type(entries) is dict else None
    if packed is None:
        fallbacks.count_operation("wire: an entry of a Metadata cannot be encoded")
        # Lazy attributes are still sent as columns, each by itself.
        return copyreg.__newobj__, (type(sent),), rest  # type: ignore[attr-defined]
    rest["state_dict_metadata"] = None
    return received.metadata, (*packed, rest)


def _pack_storage_data(data: StorageData) -> Reduced:
    columns = data.columns()
    packed = None if columns is None else native.pack_storage(columns)
    if packed is not None:
        return received.storage_data, (packed,)
    fallbacks.count_operation("wire: a modified storage_data, or a name in it, cannot be encoded")
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
    """Returns an entry of the dispatch table, which never raises.

    Args:
        pack: encodes the object as columns.
        unpickle: the function by which the receiver unpickles the object. If ``pack`` and
            ``otherwise`` raise, the receiver calls it with an error message.
        otherwise: reduces the object as upstream does, if ``pack`` raises.
    """

    def reduce(obj: Any) -> Reduced:
        try:
            return pack(obj)
        except Exception:
            logger.debug("a %s is sent as upstream's", type(obj).__name__, exc_info=True)
            fallbacks.count_operation(f"wire: encoding a {type(obj).__name__} raised an exception")
        try:
            return otherwise(obj)
        except Exception as error:
            return unpickle, (_text(error),)

    return reduce


class Pickler(pickle.Pickler):
    """The pickler of torch's collectives that encodes plans and metadata as columns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A plain dict, because the C pickler looks up every object in it without calling Python.
        self.dispatch_table = {
            **copyreg.dispatch_table,
            **_PACKED,
            SavePlan: _readable_without_shardplan,
            LoadPlan: _readable_without_shardplan,
        }


class _Call:
    """Pickles as the result of a call that the receiver makes."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> Reduced:
        return self._reduced


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _readable_without_shardplan(plan: Any) -> Reduced:
    """Encodes a plan in a pickle that a rank without shardplan can load, too.

    DCP unpickles where an exception would leave the other ranks waiting. So such a rank gets a plan
    whose items raise a ModuleNotFoundError when they are iterated, which DCP passes to all ranks.

    A pickle has calls but no conditions. ``next(map(loads, compress([plan], [spec])), other)``
    loads the plan if ``spec``, where the receiver finds shardplan, is not None.
    """
    reduced = _PACKED[type(plan)](plan)
    if reduced[0] not in (received.save_plan, received.load_plan):
        return reduced  # as upstream pickles it
    stream = io.BytesIO()
    Pickler(stream, _PROTOCOL).dump(_Call(reduced[0], *reduced[1]))
    found = _Call(importlib.util.find_spec, "shardplan")
    loaded = _Call(map, pickle.loads, _Call(itertools.compress, (stream.getvalue(),), (found,)))
    # The name of a module has no dot here, or import_module would import its parent.
    missing = (
        f"shardplan, which rank {_rank()} has and a receiver of its plan lacks: install it on "
        "every rank"
    )
    items = _Call(iter, functools.partial(importlib.import_module, missing), None)
    # A storage writer reads storage_data before it reads an item.
    return next, (loaded, _Call(type(plan), items, to_builtin(plan.storage_data)))


_PROTOCOL = 4
_as_upstream = operator.methodcaller("__reduce_ex__", _PROTOCOL)
_PACKED: dict[type, Callable[[Any], Reduced]] = {
    SavePlan: _packing(_pack_save_plan, received.save_plan, _reduce_as_upstream),
    LoadPlan: _packing(_pack_load_plan, received.load_plan, _reduce_as_upstream),
    Metadata: _packing(_pack_metadata, received.metadata, _reduce_as_upstream),
    LazyList: _packing(_pack_items, received.save_items, _as_upstream),
    LazyDict: _packing(_as_upstream, received.mappings, _as_upstream),
    StorageData: _packing(_pack_storage_data, received.storage_data, _as_upstream),
}


def install() -> None:
    """Installs the pickler, unless ``refuse(True)`` was called.

    Also makes plans and metadata that hold lazy lists and dicts pickle and copy like upstream's.
    """
    with _lock:
        for cls in _HOLDERS:
            # A caller's own entry is kept.
            if copyreg.dispatch_table.setdefault(cls, _reduce_as_upstream) is _reduce_as_upstream:
                cls.__copy__ = _COPIER
        if not _is_refused and getattr(dist.distributed_c10d, "_pickler", None) is pickle.Pickler:
            dist.distributed_c10d._pickler = Pickler


def uninstall() -> None:
    """Reverts ``install``."""
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
    """Sets whether plans are sent as torch pickles them; if true, also removes the pickler."""
    global _is_refused
    with _lock:
        _is_refused = refused
        if refused:
            _uninstall_pickler()


def refused() -> bool:
    """Returns whether the user asked for plans to be sent as torch pickles them."""
    return _is_refused
