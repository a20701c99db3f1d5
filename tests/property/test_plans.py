"""Plans of drawn state dicts and metadata: results, exceptions, items, order, chunk indices."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata
from torch.distributed.tensor.placement_types import _StridedShard

from parity.boxes import chunk, tensor_metadata
from parity.comparison import Raised, answer, assert_same, assert_same_answer, assert_same_pickles
from parity.implementations import OURS, UPSTREAM, Implementation
from parity.samples import EVERYTHING, WORLD_SIZE
from parity.verdicts import pattern_of_error
from parity.worlds import dtensor_of, mesh_of, rank_of, sharded_tensor_of
from property.strategies import DTYPE, layouts, meshes, placements, saved_tensors, shapes, tilings
from shardplan.dcp.upstream import originals

KEYS = st.sampled_from(["a", "b", "model.weight", "", "ключ", 3, None])


@st.composite
def tensors(draw: st.DrawFn) -> Any:
    """A tensor, DTensor or ShardedTensor; plain ones are more frequent than unusual ones."""
    shape = draw(shapes())
    match draw(st.integers(0, 4)):
        case 0:
            mesh_shape = draw(meshes().filter(lambda mesh: math.prod(mesh) <= WORLD_SIZE))
            layout = draw(placements(len(shape), len(mesh_shape)))
            ranks = draw(st.permutations(range(WORLD_SIZE)))[: math.prod(mesh_shape)]
            return dtensor_of(shape, mesh_of(mesh_shape, ranks), layout, dtype=draw(DTYPE))
        case 1:
            pieces = [
                (tuple(piece.offsets), tuple(piece.sizes))
                for piece in draw(tilings(shape, 5))
                if all(piece.sizes)
            ]
            if not shape or not pieces:
                return torch.empty(shape)
            rank = st.integers(0, WORLD_SIZE - 1)
            return sharded_tensor_of(
                shape, [(*piece, draw(rank)) for piece in pieces], dtype=draw(DTYPE)
            )
        case 2:
            return draw(st.sampled_from(list(EVERYTHING.values())))()
        case 3:
            return torch.nn.Parameter(torch.empty(shape), requires_grad=draw(st.booleans()))
        case _:
            return torch.empty(shape, dtype=draw(DTYPE))


@given(data=st.data(), rank=st.integers(0, WORLD_SIZE - 1), is_coordinator=st.booleans())
def test_local_save_plan(data: st.DataObject, rank: int, is_coordinator: bool) -> None:
    with rank_of(rank, WORLD_SIZE):
        state_dict = data.draw(st.dictionaries(KEYS, tensors(), max_size=4))
        expected = assert_same_answer(
            OURS.default_planner.create_default_local_save_plan,
            originals.create_default_local_save_plan,
            state_dict,
            is_coordinator,
        )
        if not isinstance(expected, Raised):
            again = OURS.default_planner.create_default_local_save_plan(state_dict, is_coordinator)
            assert_same_pickles(again.items, expected.items)


@given(data=st.data(), rank=st.integers(0, WORLD_SIZE - 1), strict=st.booleans())
def test_local_load_plan(data: st.DataObject, rank: int, strict: bool) -> None:
    with rank_of(rank, WORLD_SIZE):
        state_dict = data.draw(st.dictionaries(KEYS, tensors(), max_size=3))
        saved: dict[Any, Any] = {}
        for key, obj in state_dict.items():
            shape = tuple(obj.size()) if isinstance(obj, torch.Tensor) else (4,)
            match data.draw(st.integers(0, 9), label="kind"):
                case 0 | 1:
                    saved[key] = data.draw(saved_tensors(shape))
                case 2:
                    saved[key] = data.draw(saved_tensors(data.draw(shapes())))
                case 3:
                    saved[key] = BytesStorageMetadata()
                case 4:
                    continue  # The checkpoint does not have this key.
                case 5:
                    saved[key] = tensor_metadata(shape, data.draw(layouts(shape)))
                case _ if isinstance(obj, torch.Tensor):
                    saved[key] = tensor_metadata(shape, data.draw(tilings(shape, 6)))
                case _:
                    saved[key] = BytesStorageMetadata()
        metadata = Metadata(saved)
        expected = assert_same_answer(
            OURS.default_planner.create_default_local_load_plan,
            originals.create_default_local_load_plan,
            state_dict,
            metadata,
            strict,
        )
        if not isinstance(expected, Raised):
            again = OURS.default_planner.create_default_local_load_plan(
                state_dict, metadata, strict
            )
            assert_same_pickles(again.items, expected.items)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Any]]:
    """A mesh, and each entry of every state dict: name, shape, placements or None."""
    mesh_shape = draw(meshes().filter(lambda mesh: math.prod(mesh) <= 6))
    entries = []
    for index in range(draw(st.integers(1, 2))):
        shape = draw(shapes())
        layout = draw(st.one_of(placements(len(shape), len(mesh_shape)), st.none()))
        entries.append((f"{draw(st.sampled_from('ab'))}.{index}", shape, layout))
    return mesh_shape, entries


def state_dict_of(mesh_shape: tuple[int, ...], entries: list[Any]) -> dict[str, Any]:
    mesh = mesh_of(mesh_shape)
    state_dict: dict[str, Any] = {"nested": {}, "step": 3}
    for name, shape, layout in entries:
        tensor = torch.empty(shape) if layout is None else dtensor_of(shape, mesh, layout)
        state_dict["nested"][name] = tensor
    return state_dict


@given(source=worlds(), target_mesh=meshes(), lowest=st.booleans(), data=st.data())
def test_planners_over_a_world(
    source: tuple[tuple[int, ...], list[Any]],
    target_mesh: tuple[int, ...],
    lowest: bool,
    data: st.DataObject,
) -> None:
    """Saves on every rank of one mesh, then loads on one rank of another."""
    mesh_shape, entries = source
    world_size = math.prod(mesh_shape)
    target_size = math.prod(target_mesh)
    target_rank = data.draw(st.integers(0, target_size - 1))
    wanted = [
        (name, shape, data.draw(placements(len(shape), len(target_mesh))))
        for name, shape, _ in entries
    ]

    def saved_by(implementation: Implementation) -> Any:
        plans = []
        for rank in range(world_size):
            with rank_of(rank, world_size):
                planner = implementation.DefaultSavePlanner(dedup_save_to_lowest_rank=lowest)
                planner.set_up_planner(state_dict_of(mesh_shape, entries), None, rank == 0)
                plans.append(planner.create_local_plan())
        return answer(planner.create_global_plan, plans)

    def loaded_by(implementation: Implementation, metadata: Metadata) -> Any:
        with rank_of(target_rank, target_size):
            planner = implementation.DefaultLoadPlanner()
            planner.set_up_planner(state_dict_of(target_mesh, wanted), metadata, True)
            return answer(planner.create_local_plan)

    expected = saved_by(UPSTREAM)
    assert_same(saved_by(OURS), expected)
    if not isinstance(expected, Raised):
        assert_same(loaded_by(OURS, expected[1]), loaded_by(UPSTREAM, expected[1]))


def test_worlds_reach_the_error_path() -> None:
    """The property above draws plans that validation rejects: strided shards are not one box."""
    plans = []
    for rank in range(2):
        with rank_of(rank, 2):
            planner = OURS.DefaultSavePlanner()
            entries = [("a.0", (7,), [_StridedShard(0, split_factor=2)])]
            planner.set_up_planner(state_dict_of((2,), entries), None, rank == 0)
            plans.append(planner.create_local_plan())
    found = answer(planner.create_global_plan, plans)
    assert isinstance(found, Raised)
    assert re.search(pattern_of_error("overlapping chunks"), found.message)
    assert chunk((0,), (4,)) == plans[0].items[0].tensor_data.chunk
