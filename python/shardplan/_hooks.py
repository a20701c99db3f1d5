"""Whether callers have put functions of their own where native code would skip a call.

Upstream's planning calls a few helpers through its modules' globals, and callers replace them
there. Where one was replaced, it is called: for every entry, by upstream's own code.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from torch.distributed.checkpoint import default_planner, planner_helpers

_SAVE = {
    default_planner: ("_create_write_items",),
    planner_helpers: (
        "_create_write_item_for_bytesio",
        "_create_write_item_for_shard",
        "_create_write_item_for_tensor",
        "_create_write_items_for_dtensor",
        "_sharded_tensor_metadata",
        "compute_local_shape_and_global_offset",
    ),
}
_LOAD = {
    default_planner: ("_create_read_items",),
    planner_helpers: (
        "_create_chunk_from_dtensor",
        "_create_chunk_from_tensor",
        "_create_chunk_list",
        "_create_read_item_for_byteio",
        "_create_read_item_for_tensor",
        "compute_local_shape_and_global_offset",
        "create_read_items_for_chunk_list",
    ),
}


def _places(names: dict[ModuleType, tuple[str, ...]]) -> list[tuple[dict[str, object], str]]:
    return [(vars(module), name) for module, group in names.items() for name in group]


def _is_torchs(function: object) -> bool:
    return str(getattr(function, "__module__", "")).startswith("torch.")


_SAVE_PLACES = _places(_SAVE)
_LOAD_PLACES = _places(_LOAD)
_BOX_PLACES = _places({planner_helpers: ("compute_local_shape_and_global_offset",)})

# By id; the functions themselves are kept, so that no id is used again.
_known = {
    id(function): function
    for place, name in _SAVE_PLACES + _LOAD_PLACES
    if _is_torchs(function := place.get(name))
}


def add_ours(functions: Iterable[object]) -> None:
    """Tells which functions are ours, so that they do not count as a caller's."""
    _known.update((id(function), function) for function in functions)


def _untouched(places: list[tuple[dict[str, object], str]]) -> bool:
    return all(id(place.get(name)) in _known for place, name in places)


def save_untouched() -> bool:
    """Whether every helper of a local save plan is upstream's or ours."""
    return _untouched(_SAVE_PLACES)


def load_untouched() -> bool:
    """Whether every helper of a local load plan is upstream's or ours."""
    return _untouched(_LOAD_PLACES)


def box_untouched() -> bool:
    """Whether what computes a DTensor's local box is upstream's."""
    return _untouched(_BOX_PLACES)
