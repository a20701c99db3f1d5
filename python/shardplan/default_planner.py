"""Twins of ``torch.distributed.checkpoint.default_planner``.

Same names, arguments, results and errors. What native code does not read (subclasses, hooks,
numbers beyond int64, broken metadata) is answered by the stock function.
"""

from __future__ import annotations

from . import _fit

# isort: split
import dataclasses
from collections import ChainMap
from typing import Any

import torch
import torch.distributed.checkpoint.default_planner as stock_module
from torch.distributed.checkpoint import _version
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem, SavePlan, WriteItem

from . import _hooks, _stock
from ._items import Items
from ._native import native
from ._stock import (
    create_default_global_load_plan,
    create_default_global_save_plan,
    dedup_save_plans,
)
from ._stock import create_default_local_metadata as _create_default_local_metadata

__all__ = [
    "DefaultLoadPlanner",
    "DefaultSavePlanner",
    "create_default_global_load_plan",
    "create_default_global_save_plan",
    "create_default_local_load_plan",
    "create_default_local_save_plan",
]


def create_default_local_save_plan(state_dict: dict[str, Any], is_coordinator: bool) -> SavePlan:
    """The save plan of one rank, as columns until its items are touched.

    Answers to ``default_planner.create_default_local_save_plan``.
    """
    if not isinstance(state_dict, dict) or not _hooks.save_untouched():
        return _stock.create_default_local_save_plan(state_dict, is_coordinator)

    def foreign(fqn: str, obj: object) -> list[WriteItem]:
        return _stock.create_default_local_save_plan({fqn: obj}, is_coordinator).items

    return SavePlan(Items.from_columns(native.save_columns(state_dict, foreign)))


def create_default_local_load_plan(
    state_dict: dict[str, Any], metadata: Metadata, strict: bool = True
) -> LoadPlan:
    """The load plan of one rank, as columns until its items are touched.

    Answers to ``default_planner.create_default_local_load_plan``: RuntimeError for a key that the
    checkpoint lacks (unless not ``strict``), ValueError for a size that differs.
    """
    saved = getattr(metadata, "state_dict_metadata", None)
    if not isinstance(state_dict, dict) or type(saved) is not dict or not _hooks.load_untouched():
        return _stock.create_default_local_load_plan(state_dict, metadata, strict)

    def foreign(fqn: str, obj: object) -> list[ReadItem]:
        return _stock.create_default_local_load_plan({fqn: obj}, metadata, strict).items

    return LoadPlan(
        Items.from_columns(native.load_columns(state_dict, saved, bool(strict), foreign))
    )


def _check_box_overlap(box0: ChunkStorageMetadata, box1: ChunkStorageMetadata) -> bool:
    """Whether two chunks overlap; answers to ``default_planner._check_box_overlap``."""
    overlap = native.chunks_overlap(box0, box1)
    return _stock.check_box_overlap(box0, box1) if overlap is None else overlap


def _check_box_bounds(outer_box_size: torch.Size, inner_box: ChunkStorageMetadata) -> bool:
    """Whether a chunk lies in a tensor of this size; answers to ``_check_box_bounds``."""
    inside = native.chunk_in_bounds(outer_box_size, inner_box)
    return _stock.check_box_bounds(outer_box_size, inner_box) if inside is None else inside


def _validate_global_plan(global_plan: list[SavePlan], metadata: Metadata) -> Any:
    """What is wrong with a global plan: messages, none if nothing is (torch 2.11: a bool).

    Near-linear in the chunks. Tensors that are not plainly valid are upstream's to check, one road
    for the words of every error. Answers to ``default_planner._validate_global_plan``.
    """
    saved = getattr(metadata, "state_dict_metadata", None)
    if type(saved) is not dict or not isinstance(global_plan, list):
        return _stock.validate_global_plan(global_plan, metadata)
    suspects = native.suspects(saved, len(global_plan) > 1)
    return _stock.validate_global_plan(global_plan, Metadata({key: saved[key] for key in suspects}))


def _current(name: str) -> Any:
    """The function of this name that a caller put into stock's module, else ours."""
    found = getattr(stock_module, name)
    return globals()[name] if found is getattr(_stock, name.removeprefix("_")) else found


def _raise_if_invalid(verdict: Any) -> None:
    """Raises upstream's error for what a validation returned: messages, or True for valid."""
    if isinstance(verdict, bool):
        if not verdict:
            raise ValueError("Failed to validate global plan")
    elif verdict:
        summary = "; ".join(verdict)
        if len(summary) > 500:
            summary = summary[:500] + "... (truncated)"
        raise ValueError(f"Failed to validate global plan: {summary}")


class DefaultSavePlanner(_stock.DefaultSavePlanner):
    """``torch.distributed.checkpoint.DefaultSavePlanner``, planned natively.

    Same arguments, hooks, plans, metadata and errors.
    """

    def create_local_plan(self) -> SavePlan:
        if self._enable_plan_caching:
            return super().create_local_plan()
        plan: SavePlan = _current("create_default_local_save_plan")(
            self.state_dict, self.is_coordinator
        )
        if self.flatten_state_dict:
            plan = dataclasses.replace(plan, planner_data=self.mappings)
        self.plan = plan
        return plan

    def _create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        global_plan: list[SavePlan]
        metadata: Metadata
        global_plan, metadata = _current("create_default_global_save_plan")(
            self._dedup_save_plans(all_plans)
        )
        if self.flatten_state_dict:
            mappings = dict(ChainMap(*(plan.planner_data for plan in global_plan)))
            metadata = dataclasses.replace(metadata, planner_data=mappings)
        _raise_if_invalid(_current("_validate_global_plan")(global_plan, metadata))
        return global_plan, metadata


class DefaultLoadPlanner(_stock.DefaultLoadPlanner):
    """``torch.distributed.checkpoint.DefaultLoadPlanner``, planned natively.

    Same arguments, hooks, plans and errors.
    """

    def create_local_plan(self) -> LoadPlan:
        if self.metadata is None:
            raise AssertionError("self.metadata is not None")
        if self.flatten_state_dict:
            self._adopt_keys_of_old_checkpoint(self.metadata)
        plan: LoadPlan = _current("create_default_local_load_plan")(
            self.state_dict, self.metadata, not self.allow_partial_load
        )
        return plan

    def _adopt_keys_of_old_checkpoint(self, metadata: Metadata) -> None:
        """Flattens the state dict as torch 2.3 did, where that finds keys of the checkpoint."""
        current = set(self.state_dict.keys())
        missing = set(metadata.state_dict_metadata.keys()) - current
        if not missing:
            return
        _version._derived_version = "2_3"
        try:
            state_dict, mappings = flatten_state_dict(self.original_state_dict)
        finally:
            _version._derived_version = None
        if missing.intersection(state_dict):
            self.state_dict, self.mappings = state_dict, mappings


class _EmptyStateDictLoadPlanner(DefaultLoadPlanner, _stock.EmptyStateDictLoadPlanner):
    """``default_planner._EmptyStateDictLoadPlanner``, planned natively."""
