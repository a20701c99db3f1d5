"""The planners in torch's documentation, with the corrections that they need, on real files."""

from __future__ import annotations

import dataclasses
import io
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    ReadItem,
    SavePlan,
    WriteItem,
    WriteItemType,
)

from parity.comparison import assert_same
from parity.implementations import UPSTREAM, Implementation
from parity.simulation import save_plans


def state_dict() -> dict[str, Any]:
    return {"weight": torch.arange(12.0).reshape(3, 4), "scalar": torch.tensor(2.5), "step": 7}


def blank() -> dict[str, Any]:
    return {"weight": torch.zeros(3, 4), "scalar": torch.zeros(()), "step": 0}


def check_loaded(loaded: dict[str, Any]) -> None:
    assert torch.equal(loaded["weight"], state_dict()["weight"])
    assert torch.equal(loaded["scalar"], state_dict()["scalar"])
    assert loaded["step"] == 7


def rename_planners(implementation: Implementation) -> tuple[Any, Any]:
    """Writes every entry under a prefix, and reads it from there."""

    class RenameSave(implementation.DefaultSavePlanner):  # type: ignore[misc, name-defined]
        def set_up_planner(
            self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False
        ) -> None:
            renamed = {"foo_" + key: value for key, value in state_dict.items()}
            super().set_up_planner(renamed, storage_meta, is_coordinator)

    class RenameLoad(implementation.DefaultLoadPlanner):  # type: ignore[misc, name-defined]
        def set_up_planner(
            self, state_dict: Any, metadata: Any = None, is_coordinator: bool = False
        ) -> None:
            self.original_state_dict = state_dict
            renamed = {"foo_" + key: value for key, value in state_dict.items()}
            if self.flatten_state_dict:
                renamed, self.mappings = flatten_state_dict(renamed)
            self.state_dict = renamed
            self.metadata = metadata
            self.is_coordinator = is_coordinator

        def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
            name = read_item.dest_index.fqn.removeprefix("foo_")
            self.original_state_dict[name] = torch.load(value, weights_only=False)

    return RenameSave, RenameLoad


def fp16_planner(implementation: Implementation) -> Any:
    """Writes every tensor as float16. The documentation iterates over the plan, not its items."""

    class FP16(implementation.DefaultSavePlanner):  # type: ignore[misc, name-defined]
        def create_local_plan(self) -> SavePlan:
            plan: SavePlan = super().create_local_plan()
            for item in plan.items:
                if item.tensor_data is not None:
                    item.tensor_data.properties.dtype = torch.float16
            return plan

        def resolve_data(self, write_item: WriteItem) -> Any:
            found = super().resolve_data(write_item)
            return found if write_item.type == WriteItemType.BYTE_IO else found.to(torch.float16)

    return FP16


def extra_data_planner(implementation: Implementation) -> Any:
    """Each rank adds data that the coordinator collects. Flattening is off, so no data is lost."""

    class SaveExtraData(implementation.DefaultSavePlanner):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(flatten_state_dict=False)

        def create_local_plan(self) -> SavePlan:
            return dataclasses.replace(super().create_local_plan(), planner_data="per-rank-data")

        def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
            global_plan, metadata = super().create_global_plan(all_plans)
            collected = [plan.planner_data for plan in global_plan]
            return global_plan, dataclasses.replace(metadata, planner_data=collected)

    return SaveExtraData


def balancing_planner(implementation: Implementation) -> Any:
    """Distributes the items of rank 0 over all ranks; every rank has the same items."""

    class DDPLoadBalancing(implementation.DefaultSavePlanner):  # type: ignore[misc, name-defined]
        def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
            iters = [iter(all_plans[0].items)] * len(all_plans)
            dealt = [
                [item for item in items if item is not None]
                for items in zip(*itertools.zip_longest(*iters), strict=True)
            ]
            balanced = [
                dataclasses.replace(plan, items=items)
                for plan, items in zip(all_plans, dealt, strict=True)
            ]
            found: tuple[list[SavePlan], Metadata] = super().create_global_plan(balanced)
            return found

    return DDPLoadBalancing


def materialize_planner(implementation: Implementation) -> Any:
    """Loads into new tensors. The documentation derives this planner from the save planner."""

    class MetaModelMaterialize(implementation.DefaultLoadPlanner):  # type: ignore[misc, name-defined]
        def set_up_planner(
            self, state_dict: Any, metadata: Any = None, is_coordinator: bool = False
        ) -> None:
            # The default planner materializes meta tensors at once. Here they stay until they are
            # read.
            self.original_state_dict = state_dict
            self.state_dict, self.mappings = flatten_state_dict(state_dict)
            self.metadata = metadata
            self.is_coordinator = is_coordinator

        def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
            return torch.empty_like(super().resolve_tensor(read_item), device="cpu")

        def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
            self.original_state_dict[read_item.dest_index.fqn] = tensor

    return MetaModelMaterialize


def test_rename(implementation: Implementation, tmp_path: Path) -> None:
    save, load = rename_planners(implementation)
    dcp.save(state_dict(), checkpoint_id=tmp_path, planner=save(), no_dist=True)
    assert set(FileSystemReader(tmp_path).read_metadata().state_dict_metadata) == {
        "foo_weight",
        "foo_scalar",
        "foo_step",
    }
    loaded = blank()
    dcp.load(loaded, checkpoint_id=tmp_path, planner=load(), no_dist=True)
    check_loaded(loaded)


def test_fp16(implementation: Implementation, tmp_path: Path) -> None:
    planner = fp16_planner(implementation)()
    dcp.save(state_dict(), checkpoint_id=tmp_path, planner=planner, no_dist=True)
    saved = FileSystemReader(tmp_path).read_metadata().state_dict_metadata
    assert saved["weight"].properties.dtype is torch.float16
    assert saved["scalar"].properties.dtype is torch.float16
    loaded = {"weight": torch.zeros(3, 4, dtype=torch.float16), "step": 0}
    dcp.load(
        loaded, checkpoint_id=tmp_path, planner=implementation.DefaultLoadPlanner(), no_dist=True
    )
    assert torch.equal(loaded["weight"], state_dict()["weight"].half())
    assert loaded["step"] == 7


def test_extra_data(implementation: Implementation, tmp_path: Path) -> None:
    planner = extra_data_planner(implementation)
    dcp.save(state_dict(), checkpoint_id=tmp_path, planner=planner(), no_dist=True)
    assert FileSystemReader(tmp_path).read_metadata().planner_data == ["per-rank-data"]
    found = save_plans(planner, lambda rank: state_dict(), 3)
    assert found.metadata.planner_data == ["per-rank-data"] * 3


def test_load_balancing(implementation: Implementation, tmp_path: Path) -> None:
    planner = balancing_planner(implementation)
    dcp.save(state_dict(), checkpoint_id=tmp_path, planner=planner(), no_dist=True)
    loaded = blank()
    dcp.load(
        loaded, checkpoint_id=tmp_path, planner=implementation.DefaultLoadPlanner(), no_dist=True
    )
    check_loaded(loaded)
    found = save_plans(planner, lambda rank: state_dict(), 3)
    assert [[item.index.fqn for item in plan.items] for plan in found.final_plans] == [
        ["weight"],
        ["scalar"],
        ["step"],
    ]


def test_materialize(implementation: Implementation, tmp_path: Path) -> None:
    dcp.save(
        state_dict(),
        checkpoint_id=tmp_path,
        planner=implementation.DefaultSavePlanner(),
        no_dist=True,
    )
    loaded = {
        "weight": torch.zeros(3, 4, device="meta"),
        "scalar": torch.zeros((), device="meta"),
        "step": 0,
    }
    planner = materialize_planner(implementation)()
    dcp.load(loaded, checkpoint_id=tmp_path, planner=planner, no_dist=True)
    check_loaded(loaded)


@pytest.mark.parametrize("make", [fp16_planner, extra_data_planner, balancing_planner])
def test_plans_equal_those_of_upstreams_subclass(make: Any, implementation: Implementation) -> None:
    found = save_plans(make(implementation), lambda rank: state_dict(), 3)
    if implementation.name != "registered":
        assert_same(found, save_plans(make(UPSTREAM), lambda rank: state_dict(), 3))
    assert all(isinstance(plan, SavePlan) for plan in found.final_plans)
    assert not any(isinstance(plan, LoadPlan) for plan in found.final_plans)
