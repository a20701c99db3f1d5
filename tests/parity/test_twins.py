"""Every function of the upstream modules has a twin with the same signature."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

import shardplan
from parity.implementations import OURS, UPSTREAM
from shardplan.dcp.twins import table
from shardplan.dcp.upstream import originals

PLANNER_HELPERS = (
    "_chunk_for_shard",
    "_compare_save_plans",
    "_contains_usable_plan",
    "_create_chunk_from_dtensor",
    "_create_chunk_from_tensor",
    "_create_chunk_list",
    "_create_default_metadata_only_plan",
    "_create_read_item_for_byteio",
    "_create_read_item_for_tensor",
    "_create_read_items",
    "_create_write_item_for_bytesio",
    "_create_write_item_for_shard",
    "_create_write_item_for_tensor",
    "_create_write_items",
    "_create_write_items_for_dtensor",
    "_init_state_dict",
    "_iterate_state_dict",
    "_merge_delta_local_plans",
    "_sharded_tensor_metadata",
    "create_read_items_for_chunk_list",
)
DEFAULT_PLANNER = (
    "_check_box_bounds",
    "_check_box_overlap",
    "_create_default_local_metadata",
    "_validate_global_plan",
    "create_default_global_load_plan",
    "create_default_global_save_plan",
    "create_default_local_load_plan",
    "create_default_local_save_plan",
    "dedup_save_plans",
)
PLANNERS = ("DefaultSavePlanner", "DefaultLoadPlanner", "_EmptyStateDictLoadPlanner")
RESHARDING = ("_check_shard_metadata_pair_overlap", "_shards_get_overlap_region_wrt_saved_tensor")

FUNCTIONS = [
    *(("planner_helpers", name) for name in PLANNER_HELPERS),
    *(("default_planner", name) for name in DEFAULT_PLANNER),
    *(("resharding", name) for name in RESHARDING),
]


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_function_has_the_upstream_parameters(module: str, name: str) -> None:
    ours = inspect.signature(getattr(getattr(OURS, module), name))
    upstream = inspect.signature(getattr(getattr(UPSTREAM, module), name))
    assert list(ours.parameters) == list(upstream.parameters)
    for mine, theirs in zip(ours.parameters.values(), upstream.parameters.values(), strict=True):
        assert (mine.kind, mine.default) == (theirs.kind, theirs.default)


def test_dedup_tensors_has_the_upstream_parameters() -> None:
    ours, upstream = OURS.dedup_tensors, UPSTREAM.dedup_tensors
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(upstream).parameters)


OUR_OPTIONS = {"cache_key", "dedup", "strict", "check_dtype", "check_coverage"}


@pytest.mark.parametrize("name", PLANNERS)
def test_planner_is_a_subclass_with_the_upstream_methods(name: str) -> None:
    ours = getattr(OURS.default_planner, name)
    upstream = getattr(UPSTREAM.default_planner, name)
    assert issubclass(ours, upstream)
    assert ours.__name__ == upstream.__name__
    for method, _ in inspect.getmembers(upstream, inspect.isfunction):
        mine, theirs = getattr(ours, method), getattr(upstream, method)
        parameters = [
            each for each in inspect.signature(mine).parameters if each not in OUR_OPTIONS
        ]
        assert parameters == list(inspect.signature(theirs).parameters), method


def test_module_exports_what_the_upstream_module_exports() -> None:
    for module in ("planner_helpers", "default_planner", "resharding"):
        ours = getattr(OURS, module).__all__
        upstream = getattr(UPSTREAM, module).__all__
        assert set(ours) == set(upstream), module


def test_every_upstream_function_defined_here_has_a_twin() -> None:
    """Fails if a later torch adds a function."""
    for module in ("planner_helpers", "default_planner", "resharding"):
        of_upstream = getattr(UPSTREAM, module)
        defined = {
            name
            for name, value in vars(of_upstream).items()
            if inspect.isfunction(value) and value.__module__ == of_upstream.__name__
        }
        missing = {name for name in defined if not hasattr(getattr(OURS, module), name)}
        assert not missing, module


def test_oracle_is_upstream() -> None:
    """These tests compare with torch's own code, and torch's modules hold it."""
    for field, function in vars(originals).items():
        if inspect.isfunction(function):
            assert function.__module__.startswith("torch.distributed.checkpoint"), field
    assert UPSTREAM.default_planner._validate_global_plan is originals.validate_global_plan


def test_names_of_the_package() -> None:
    assert shardplan.DefaultSavePlanner is OURS.DefaultSavePlanner
    assert shardplan.DefaultLoadPlanner is OURS.DefaultLoadPlanner
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        shardplan.absent  # noqa: B018
    assert set(shardplan.__all__) <= set(dir(shardplan))


def test_registration_is_a_frozen_record() -> None:
    assert [field.name for field in dataclasses.fields(shardplan.Registration)] == [
        "replaced",
        "unreached",
    ]


def test_every_function_of_shardplan_is_declared() -> None:
    """A function under an upstream name is upstream's own, or is declared as its twin."""
    declared = table.twins()
    for module, name in FUNCTIONS:
        ours = getattr(getattr(OURS, module), name)
        original = getattr(originals, name.removeprefix("_"))
        assert ours is original or declared[original] is ours, name


def test_every_twin_has_an_upstream_function() -> None:
    known = {id(value) for value in vars(originals).values()}
    assert all(id(original) in known for original in table.twins())


def test_a_second_twin_is_rejected() -> None:
    with pytest.raises(ValueError, match="_validate_global_plan already has a twin"):
        table.twin_of(originals.validate_global_plan)(lambda plans, metadata: [])
