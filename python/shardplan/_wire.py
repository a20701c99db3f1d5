"""The functions that unpickle what other ranks send.

Their names travel, so this module and they keep them for ever, and take whatever another version
may send. What arrives broken says so at first use, never while it is unpickled: DCP unpickles where
an error would leave the other ranks waiting.
"""

from __future__ import annotations

from .dcp.lazy.items import Items
from .dcp.lazy.path_mappings import Mappings
from .dcp.lazy.storage_data import StorageData
from .dcp.native import native

# isort: split
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan


class _Unreadable:
    """Stands for what could not be sent, or what an unknown shardplan sent."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self._problem = (
            "a plan from another rank cannot be read: it was sent by a shardplan of another "
            "version; install the same shardplan on every rank"
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
    """The state_dict_metadata of a Metadata that arrived."""

    def __init__(self, arrived: native.ReceivedMetadata) -> None:
        self._arrived = arrived

    def mappings(self) -> dict[str, Any]:
        return self._arrived.entries(Items.from_columns)


def _storage_source(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) == 1 and isinstance(arguments[0], bytes):
        return native.ReceivedStorage(*arguments)
    return _Unreadable(arguments)


def _source(arrived: type, arguments: tuple[Any, ...]) -> Any:
    if len(arguments) == 2 and isinstance(arguments[0], bytes):
        return arrived(*arguments)
    return _Unreadable(arguments)


def save_items(*arguments: Any) -> Items:
    """Unpickles the items of a SavePlan."""
    return Items.from_columns(_source(native.ReceivedSave, arguments))


def load_items(*arguments: Any) -> Items:
    """Unpickles the items of a LoadPlan."""
    return Items.from_columns(_source(native.ReceivedLoad, arguments))


def mappings(*arguments: Any) -> Mappings:
    """Unpickles mappings that could not be read."""
    return Mappings.arrived(_Unreadable(arguments))


def _split(arguments: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the items come from, and the plan's other attributes."""
    if len(arguments) == 3 and isinstance(arguments[2], dict):
        return arguments[:2], arguments[2]
    # Of two arguments, items would be made: these are no plan's.
    return arguments if len(arguments) != 2 else (), {}


def save_plan(*arguments: Any) -> SavePlan:
    """Unpickles a SavePlan."""
    of_items, rest = _split(arguments)
    plan = SavePlan.__new__(SavePlan)
    state = vars(plan)
    source = _source(native.ReceivedSave, of_items)
    state.update(items=Items.from_columns(source), storage_data=None)
    state["planner_data"] = None if "planner_data" in rest else Mappings.arrived(source)
    state.update(rest)
    return plan


def load_plan(*arguments: Any) -> LoadPlan:
    """Unpickles a LoadPlan."""
    of_items, rest = _split(arguments)
    plan = LoadPlan.__new__(LoadPlan)
    state = vars(plan)
    state.update(items=Items.from_columns(_source(native.ReceivedLoad, of_items)))
    state.update(rest)
    return plan


def results(*arguments: Any) -> Items:
    """Unpickles a rank's write results."""
    return Items.from_columns(_storage_source(arguments))


def storage_data(*arguments: Any) -> StorageData:
    """Unpickles a storage_data."""
    return StorageData.from_columns(_storage_source(arguments))


def metadata(*arguments: Any) -> Metadata:
    """Unpickles a Metadata."""
    arrived = Metadata.__new__(Metadata)
    known = len(arguments) == 3 and isinstance(arguments[0], bytes)
    rest = arguments[2] if known else None
    if isinstance(rest, dict):
        vars(arrived).update(rest)
        entries: Any = _Entries(native.ReceivedMetadata(*arguments[:2]))
    else:
        vars(arrived).update(vars(Metadata({})))
        entries = _Unreadable(arguments)
    arrived.state_dict_metadata = Mappings.arrived(entries)
    return arrived
