"""Twins of the functions that flatten state dicts.

They are in ``torch.distributed.checkpoint._nested_dict`` and ``_sharded_tensor_utils``.
"""

from __future__ import annotations

import contextlib
from typing import Any

from torch.distributed.checkpoint import _version

from .. import fallbacks
from ..native import native
from ..upstream import originals
from .table import twin_of

__all__ = ["_flatten_sharded_tensors", "flatten_state_dict"]

StateDict = dict[str, Any]


@twin_of(originals.flatten_state_dict)
def flatten_state_dict(state_dict: StateDict) -> tuple[StateDict, dict[str, tuple[Any, ...]]]:
    """Flattens nested mappings and lists.

    Returns:
        The values by their names, and the path of each name.

    Raises:
        ValueError: two values have the same name.
    """
    if _version._derived_version is None:
        # Upstream's error for a dict that holds itself depends on where its stack ends.
        with contextlib.suppress(RecursionError):
            return native.flatten_state_dict(state_dict)
    flattened: tuple[StateDict, dict[str, tuple[Any, ...]]]
    flattened = originals.flatten_state_dict(state_dict)
    return flattened


@twin_of(originals.flatten_sharded_tensors)
def _flatten_sharded_tensors(state_dict: StateDict) -> StateDict:
    """Returns a copy of a state dict in which no ShardedTensor is nested in another one."""
    with contextlib.suppress(RecursionError):
        copy = native.copy_state_dict(state_dict)
        if copy is not None:
            return copy
    fallbacks.count_operation(
        "flatten sharded tensors: one is nested, two values share a path, or a dict holds itself"
    )
    flattened: StateDict = originals.flatten_sharded_tensors(state_dict)
    return flattened
