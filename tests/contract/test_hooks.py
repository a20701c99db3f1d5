"""Row 6: every hook that a subclass or a caller replaces is called with usable arguments."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import default_planner, planner_helpers
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem, SavePlan, WriteItem
from torch.distributed.tensor import DTensor, Shard

from parity.comparison import assert_same
from parity.implementations import OURS, UPSTREAM, Implementation
from parity.worlds import dtensor_of, mesh_of, rank_of
from shardplan.dcp.upstream import originals


def state_dict() -> dict[str, Any]:
    return {"b": torch.arange(4.0), "nested": {"a": torch.tensor(1.0)}, "c": 3}


def recording_save_planner(implementation: Implementation, calls: list[str]) -> Any:
    """A planner that overrides every hook of a save; each override records the call."""

    class Recording(implementation.DefaultSavePlanner):  # type: ignore[misc, name-defined]
        def set_up_planner(self, *args: Any, **kwargs: Any) -> None:
            calls.append("set_up_planner")
            super().set_up_planner(*args, **kwargs)

        def create_local_plan(self) -> SavePlan:
            calls.append("create_local_plan")
            return super().create_local_plan()

        def create_global_plan(self, all_plans: list[SavePlan]) -> Any:
            calls.append("create_global_plan")
            return super().create_global_plan(all_plans)

        def _create_global_plan(self, all_plans: list[SavePlan]) -> Any:
            calls.append("_create_global_plan")
            return super()._create_global_plan(all_plans)

        def _create_global_plan_with_caching(self, all_plans: list[SavePlan]) -> Any:
            calls.append("_create_global_plan_with_caching")
            return super()._create_global_plan_with_caching(all_plans)

        def _dedup_save_plans(self, all_plans: list[SavePlan]) -> list[SavePlan]:
            calls.append(f"_dedup_save_plans of {sorted(i.index.fqn for i in all_plans[0].items)}")
            return super()._dedup_save_plans(all_plans)

        def _finish_plan_with_caching(self, new_plan: SavePlan) -> SavePlan:
            calls.append("_finish_plan_with_caching")
            return super()._finish_plan_with_caching(new_plan)

        def finish_plan(self, new_plan: SavePlan) -> SavePlan:
            calls.append("finish_plan")
            return super().finish_plan(new_plan)

        def resolve_data(self, write_item: WriteItem) -> Any:
            calls.append(f"resolve_data {write_item.index.fqn}")
            return super().resolve_data(write_item)

        def lookup_object(self, index: MetadataIndex) -> Any:
            calls.append(f"lookup_object {index.fqn}")
            return super().lookup_object(index)

        def transform_object(self, write_item: WriteItem, object: Any) -> Any:
            calls.append(f"transform_object {write_item.index.fqn}")
            return super().transform_object(write_item, object)

    return Recording


def recording_load_planner(implementation: Implementation, calls: list[str]) -> Any:
    """The same for a load."""

    class Recording(implementation.DefaultLoadPlanner):  # type: ignore[misc, name-defined]
        def set_up_planner(self, *args: Any, **kwargs: Any) -> None:
            calls.append("set_up_planner")
            super().set_up_planner(*args, **kwargs)

        def create_local_plan(self) -> LoadPlan:
            calls.append("create_local_plan")
            return super().create_local_plan()

        def create_global_plan(self, global_plan: list[LoadPlan]) -> list[LoadPlan]:
            calls.append(f"create_global_plan of {len(global_plan[0].items)}")
            return super().create_global_plan(global_plan)

        def finish_plan(self, new_plan: LoadPlan) -> LoadPlan:
            calls.append("finish_plan")
            return super().finish_plan(new_plan)

        def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
            calls.append(f"load_bytes {read_item.dest_index.fqn}")
            super().load_bytes(read_item, value)

        def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
            calls.append(f"resolve_tensor {read_item.dest_index.fqn}")
            return super().resolve_tensor(read_item)

        def lookup_tensor(self, index: MetadataIndex) -> torch.Tensor:
            calls.append(f"lookup_tensor {index.fqn}")
            return super().lookup_tensor(index)

        def transform_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> torch.Tensor:
            calls.append(f"transform_tensor {read_item.dest_index.fqn}")
            return super().transform_tensor(read_item, tensor)

        def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
            calls.append(f"commit_tensor {read_item.dest_index.fqn}")
            super().commit_tensor(read_item, tensor)

    return Recording


@pytest.mark.parametrize("caching", [False, True])
def test_save_calls_each_hook_as_upstream_does(
    implementation: Implementation, caching: bool, tmp_path: Path, empty_plan_cache: None
) -> None:
    calls: dict[str, list[str]] = {"upstream": [], "other": []}
    for where, maker in (("upstream", UPSTREAM), ("other", implementation)):
        planner = recording_save_planner(maker, calls[where])(enable_plan_caching=caching)
        planner._cached_plans_key = where
        dcp.save(state_dict(), checkpoint_id=tmp_path / where, planner=planner, no_dist=True)
    # Files are written by threads or in order of size, so only the set of calls is compared.
    assert sorted(calls["other"]) == sorted(calls["upstream"])
    assert "_dedup_save_plans of ['b', 'c', 'nested.a']" in calls["other"]
    assert "lookup_object nested.a" in calls["other"]


def test_load_calls_each_hook_as_upstream_does(
    implementation: Implementation, tmp_path: Path
) -> None:
    dcp.save(state_dict(), checkpoint_id=tmp_path, no_dist=True)
    calls: dict[str, list[str]] = {"upstream": [], "other": []}
    for where, maker in (("upstream", UPSTREAM), ("other", implementation)):
        planner = recording_load_planner(maker, calls[where])()
        dcp.load(state_dict(), checkpoint_id=tmp_path, planner=planner, no_dist=True)
    assert sorted(calls["other"]) == sorted(calls["upstream"])
    assert "commit_tensor nested.a" in calls["other"]
    assert "create_global_plan of 3" in calls["other"]


@pytest.fixture
def empty_plan_cache() -> Iterator[None]:
    caches = [value for name, value in vars(dcp.SavePlanner).items() if name.startswith("_cached")]
    for cache in caches:
        cache.clear()
    yield
    for cache in caches:
        cache.clear()


def plan_globally(planner: Any) -> tuple[list[SavePlan], Metadata]:
    planner.set_up_planner(state_dict(), None, True)
    found: tuple[list[SavePlan], Metadata] = planner.create_global_plan(
        [planner.create_local_plan()]
    )
    return found


def test_overridden_dedup_is_used(implementation: Implementation) -> None:
    class KeepsTensors(implementation.DefaultSavePlanner):  # type: ignore[misc, name-defined]
        def _dedup_save_plans(self, all_plans: list[SavePlan]) -> list[SavePlan]:
            return [
                SavePlan([item for item in plan.items if item.tensor_data], planner_data={})
                for plan in all_plans
            ]

    plans, metadata = plan_globally(KeepsTensors())
    assert [item.index.fqn for item in plans[0].items] == ["b", "nested.a"]
    assert list(metadata.state_dict_metadata) == ["b", "nested.a"]


def test_overridden_global_plan_is_used(implementation: Implementation) -> None:
    class Elsewhere(implementation.DefaultSavePlanner):  # type: ignore[misc, name-defined]
        def _create_global_plan(self, all_plans: list[SavePlan]) -> Any:
            return [SavePlan([])], Metadata({"mine": None})  # type: ignore[dict-item]

    planner = Elsewhere()
    plans, metadata = plan_globally(planner)
    assert (plans, list(metadata.state_dict_metadata)) == ([SavePlan([])], ["mine"])
    assert planner.metadata is metadata


REPLACED_VERDICTS: list[tuple[Any, str | None]] = [
    ([], None),
    (True, None),
    (None, None),
    (["wrong"], "Failed to validate global plan: wrong"),
    (["wrong", "bad"], "Failed to validate global plan: wrong; bad"),
    (False, "Failed to validate global plan"),
]


@pytest.mark.parametrize(("verdict", "message"), REPLACED_VERDICTS, ids=repr)
def test_replaced_validation_is_called(
    monkeypatch: pytest.MonkeyPatch, verdict: Any, message: str | None
) -> None:
    """Callers replace it in default_planner; True and an empty list mean valid."""
    received: list[tuple[list[SavePlan], Metadata]] = []

    def validate(global_plan: list[SavePlan], metadata: Metadata) -> Any:
        received.append((global_plan, metadata))
        return verdict

    monkeypatch.setattr(default_planner, "_validate_global_plan", validate)
    if message is None:
        plans, metadata = plan_globally(OURS.DefaultSavePlanner())
        assert received[0][0] is plans
        assert received[0][1] is metadata
    else:
        with pytest.raises(ValueError) as raised:
            plan_globally(OURS.DefaultSavePlanner())
        assert str(raised.value) == message
    assert len(received) == 1
    global_plan, seen = received[0]
    assert [type(plan) for plan in global_plan] == [SavePlan]
    assert list(seen.state_dict_metadata) == ["b", "nested.a", "c"]
    assert seen.planner_data == {"b": ("b",), "nested.a": ("nested", "a"), "c": ("c",)}


# How often planning one save and one load of two tensors and a number calls each function.
CALLS = {
    (default_planner, "create_default_local_save_plan"): 1,
    (default_planner, "create_default_global_save_plan"): 1,
    (default_planner, "dedup_save_plans"): 1,
    (default_planner, "create_default_local_load_plan"): 1,
    (default_planner, "_create_write_items"): 3,
    (default_planner, "_create_read_items"): 3,
    (planner_helpers, "_create_write_item_for_tensor"): 2,
    (planner_helpers, "_create_write_item_for_bytesio"): 1,
    (planner_helpers, "_create_chunk_list"): 2,
    (planner_helpers, "_create_chunk_from_tensor"): 2,
    (planner_helpers, "create_read_items_for_chunk_list"): 2,
    (planner_helpers, "_create_read_item_for_tensor"): 2,
    (planner_helpers, "_create_read_item_for_byteio"): 1,
}


def record_calls(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str) -> list[Any]:
    """Replaces torch's function by one that records its calls and passes them on."""
    calls: list[Any] = []
    original = getattr(holder, name)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(holder, name, replaced)
    return calls


@pytest.mark.parametrize(("module", "name"), CALLS, ids=[name for _, name in CALLS])
def test_replaced_function_is_called(
    implementation: Implementation, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    calls = record_calls(monkeypatch, module, name)
    _, metadata = plan_globally(implementation.DefaultSavePlanner())
    loader = implementation.DefaultLoadPlanner()
    loader.set_up_planner(state_dict(), metadata, True)
    assert len(loader.create_local_plan().items[:]) == 3
    assert len(calls) == CALLS[module, name]


@pytest.mark.parametrize(
    ("holder", "name"),
    [
        (planner_helpers, "_create_write_items_for_dtensor"),
        (planner_helpers, "compute_local_shape_and_global_offset"),
        (DTensor, "__create_write_items__"),
    ],
    ids=["write items", "local shape", "method"],
)
def test_replaced_function_of_dtensors_is_called(
    implementation: Implementation, monkeypatch: pytest.MonkeyPatch, holder: Any, name: str
) -> None:
    with rank_of(0, 2):
        entries = {"w": dtensor_of((4,), mesh_of((2,)), [Shard(0)])}
        calls = record_calls(monkeypatch, holder, name)
        planner = implementation.DefaultSavePlanner()
        planner.set_up_planner(entries, None, True)
        assert len(planner.create_local_plan().items[:]) == 1
    assert len(calls) == 1


def test_the_result_of_a_replaced_function_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:

    def only_names(fqn: str, object: Any) -> list[WriteItem]:
        return [originals.create_write_item_for_bytesio(f"mine.{fqn}", None)]

    monkeypatch.setattr(default_planner, "_create_write_items", only_names)
    found = OURS.default_planner.create_default_local_save_plan({"a": torch.zeros(2)}, True)
    assert_same(found, default_planner.create_default_local_save_plan({"a": torch.zeros(2)}, True))
    assert [item.index.fqn for item in found.items] == ["mine.a"]
