"""The planner of loads."""

from __future__ import annotations

from typing import Any

import torch.distributed.checkpoint.default_planner as upstream_module
from torch.distributed.checkpoint import _version
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan

from .. import wire
from ..reports import load_errors
from ..twins import default_planner, state_dicts
from ..upstream import originals
from . import coordinator, plan_log

__all__ = ["DefaultLoadPlanner"]


class DefaultLoadPlanner(originals.DefaultLoadPlanner):
    """``torch.distributed.checkpoint.DefaultLoadPlanner``, planned natively.

    The arguments, hooks, plans and errors are those of upstream. An error message continues, after
    upstream's text, with all mismatches between the state dict and the checkpoint; the exception
    has the same data in its attribute ``report``.

    Args:
        flatten_state_dict, flatten_sharded_tensors, allow_partial_load: as upstream.
        strict: if true, a key that is missing in the checkpoint is an error; otherwise its value is
            kept, as with ``allow_partial_load=True``.
        check_dtype: if true, a tensor that was saved with another dtype or as an object is an
            error.
        check_coverage: if true, a region that no saved box covers is an error; otherwise its values
            are kept.

    Attributes:
        missing_keys: keys of the state dict that are missing in the checkpoint. Set by planning.
        unexpected_keys: keys of the checkpoint that are not in the state dict. Set by planning.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __init__(
        self,
        flatten_state_dict: bool = True,
        flatten_sharded_tensors: bool = True,
        allow_partial_load: bool = False,
        *,
        strict: bool = True,
        check_dtype: bool = False,
        check_coverage: bool = False,
    ) -> None:
        super().__init__(
            flatten_state_dict, flatten_sharded_tensors, allow_partial_load or not strict
        )
        self.check_dtype = check_dtype
        self.check_coverage = check_coverage
        self.missing_keys = []
        self.unexpected_keys = []

    def set_up_planner(
        self,
        state_dict: dict[str, Any],
        metadata: Metadata | None = None,
        is_coordinator: bool = False,
    ) -> None:
        wire.install()
        upstream_module._init_state_dict(state_dict)
        self.original_state_dict = state_dict
        if self.flatten_sharded_tensors:
            state_dict = coordinator.current(state_dicts._flatten_sharded_tensors)(state_dict)
        if self.flatten_state_dict:
            state_dict, self.mappings = coordinator.current(state_dicts.flatten_state_dict)(
                state_dict
            )
        self.state_dict = state_dict
        self.metadata = metadata
        self.is_coordinator = is_coordinator

    def create_local_plan(self) -> LoadPlan:
        if self.metadata is None:
            raise AssertionError("self.metadata is not None")
        stages = plan_log.Stages()
        if self.flatten_state_dict:
            self._use_torch_2_3_keys(self.metadata)
        self.missing_keys, self.unexpected_keys = load_errors.keys(self.state_dict, self.metadata)
        with load_errors.add_mismatches(self):
            plan: LoadPlan = coordinator.current(default_planner.create_default_local_load_plan)(
                self.state_dict, self.metadata, not self.allow_partial_load
            )
        if self.check_dtype:
            load_errors.check_dtypes(self.state_dict, self.metadata)
        if self.check_coverage:
            load_errors.check_coverage(self.state_dict, self.metadata)
        stages.done("local plan")
        self._stages = stages
        return plan

    def create_global_plan(self, global_plan: list[LoadPlan]) -> list[LoadPlan]:
        planned: list[LoadPlan] = super().create_global_plan(global_plan)
        plan_log.loaded(planned, self.metadata, vars(self).pop("_stages", plan_log.Stages()))
        return planned

    def _use_torch_2_3_keys(self, metadata: Metadata) -> None:
        """Flattens the state dict as torch 2.3 did, if the checkpoint has keys of that form."""
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


class _EmptyStateDictLoadPlanner(originals.EmptyStateDictLoadPlanner, DefaultLoadPlanner):
    """``default_planner._EmptyStateDictLoadPlanner``, planned natively."""
