"""The functions that unpickle messages from other ranks.

Messages contain the names of this module and its functions, so these must never change, and the
functions accept any arguments that another version may send. A broken message raises at first
access and not while it is unpickled, because DCP unpickles where an exception would leave the other
ranks waiting.
"""

from __future__ import annotations

from .dcp.lazy.items import LazyList
from .dcp.lazy.path_mappings import LazyDict
from .dcp.lazy.storage_data import StorageData
from .dcp.native import native

# isort: split
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan


class _Unreadable:
    """A source that raises when it is read.

    It replaces an object that the sender could not encode, or one sent by an unknown version.
    """

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self._problem = (
            "a plan from another rank cannot be read: it was sent by another version of shardplan; "
            "install the same version on every rank"
        )
        if len(arguments) == 1 and isinstance(arguments[0], str):
            self._problem = arguments[0]

    def __len__(self) -> int:
        return 1

    def items(self) -> list[Any]:
        raise native.UnreadablePlan(self._problem)

    def mappings(self) -> dict[str, Any]:
        self.items()
        return {}

    def columns(self) -> Any:
        return self.items()


class _Entries:
    """The source of a received state_dict_metadata."""

    def __init__(self, received: native.ReceivedMetadata) -> None:
        self._received = received

    def mappings(self) -> dict[str, Any]:
        return self._received.entries(LazyList.from_columns)


def _storage_source(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) == 1 and isinstance(arguments[0], bytes):
        return native.ReceivedStorage(*arguments)
    return _Unreadable(arguments)


def _source(received: type, arguments: tuple[Any, ...]) -> Any:
    if len(arguments) == 2 and isinstance(arguments[0], bytes):
        return received(*arguments)
    return _Unreadable(arguments)


def save_items(*arguments: Any) -> LazyList:
    """Unpickles the items of a SavePlan."""
    return LazyList.from_columns(_source(native.ReceivedSave, arguments))


def load_items(*arguments: Any) -> LazyList:
    """Unpickles the items of a LoadPlan."""
    return LazyList.from_columns(_source(native.ReceivedLoad, arguments))


def mappings(*arguments: Any) -> LazyDict:
    """Unpickles mappings that the sender could not pickle."""
    return LazyDict.from_source(_Unreadable(arguments))


def _split(arguments: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Splits the arguments of a plan into those of its items and its other attributes."""
    if len(arguments) == 3 and isinstance(arguments[2], dict):
        return arguments[:2], arguments[2]
    # Two arguments would look like those of items, but they are not a plan's.
    return arguments if len(arguments) != 2 else (), {}


def save_plan(*arguments: Any) -> SavePlan:
    """Unpickles a SavePlan."""
    item_arguments, rest = _split(arguments)
    plan = SavePlan.__new__(SavePlan)
    state = vars(plan)
    source = _source(native.ReceivedSave, item_arguments)
    state.update(items=LazyList.from_columns(source), storage_data=None)
    state["planner_data"] = None if "planner_data" in rest else LazyDict.from_source(source)
    state.update(rest)
    return plan


def load_plan(*arguments: Any) -> LoadPlan:
    """Unpickles a LoadPlan."""
    item_arguments, rest = _split(arguments)
    plan = LoadPlan.__new__(LoadPlan)
    state = vars(plan)
    state.update(items=LazyList.from_columns(_source(native.ReceivedLoad, item_arguments)))
    state.update(rest)
    return plan


def results(*arguments: Any) -> LazyList:
    """Unpickles a rank's write results."""
    return LazyList.from_columns(_storage_source(arguments))


def storage_data(*arguments: Any) -> StorageData:
    """Unpickles a storage_data."""
    return StorageData.from_columns(_storage_source(arguments))


def metadata(*arguments: Any) -> Metadata:
    """Unpickles a Metadata."""
    received = Metadata.__new__(Metadata)
    known = len(arguments) == 3 and isinstance(arguments[0], bytes)
    rest = arguments[2] if known else None
    if isinstance(rest, dict):
        vars(received).update(rest)
        entries: Any = _Entries(native.ReceivedMetadata(*arguments[:2]))
    else:
        vars(received).update(vars(Metadata({})))
        entries = _Unreadable(arguments)
    received.state_dict_metadata = LazyDict.from_source(entries)
    return received
