"""The box of a rank: shardplan's closed form against upstream's index tensors."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.tensor import Replicate
from torch.distributed.tensor._utils import _compute_local_shape_and_global_offset
from torch.distributed.tensor.placement_types import Placement, _StridedShard

from parity.comparison import assert_same_answer, assert_same_pickles
from parity.implementations import OURS
from parity.worlds import dtensor_of, mesh_of, rank_of
from property.strategies import meshes, placements
from shardplan import _core
from shardplan.dcp.upstream import originals


def described(placement: Placement) -> tuple[str, int, int]:
    """A placement in the core's format."""
    if isinstance(placement, Replicate):
        return "replicate", 0, 1
    if isinstance(placement, _StridedShard):
        return "strided_shard", placement.dim, placement.split_factor
    return "shard", placement.dim, 1


@given(data=st.data())
def test_closed_form(data: st.DataObject) -> None:
    mesh = data.draw(meshes(), label="mesh")
    shape = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=3), label="shape")
    layout = data.draw(placements(len(shape), len(mesh)), label="placements")
    coordinate = [data.draw(st.integers(0, ranks - 1)) for ranks in mesh]
    expected = _compute_local_shape_and_global_offset(shape, mesh, coordinate, layout)
    found = _core.local_box(shape, mesh, coordinate, [described(one) for one in layout])
    assert found is not None
    assert (tuple(found[0]), tuple(found[1])) == expected


@given(data=st.data())
def test_closed_form_of_long_dims(data: st.DataObject) -> None:
    """One dim that is sharded several times, long enough for many pieces of every length."""
    length = data.draw(st.integers(0, 2_000), label="length")
    mesh = data.draw(
        st.lists(st.integers(1, 9), min_size=1, max_size=4).filter(lambda m: math.prod(m) < 600),
        label="mesh",
    )
    layout = data.draw(placements(1, len(mesh)), label="placements")
    coordinate = [data.draw(st.integers(0, ranks - 1)) for ranks in mesh]
    expected = _compute_local_shape_and_global_offset([length], mesh, coordinate, layout)
    found = _core.local_box([length], mesh, coordinate, [described(one) for one in layout])
    assert found is not None
    assert (tuple(found[0]), tuple(found[1])) == expected


@given(data=st.data())
def test_dtensors(data: st.DataObject) -> None:
    """The same through DTensors, for ranks inside and outside the mesh."""
    mesh_shape = data.draw(meshes(), label="mesh")
    members = math.prod(mesh_shape)
    world_size = members + data.draw(st.integers(0, 2))
    rank = data.draw(st.integers(0, world_size - 1), label="rank")
    shape = data.draw(st.lists(st.integers(0, 13), max_size=3), label="shape")
    layout = data.draw(placements(len(shape), len(mesh_shape)), label="placements")
    requires_grad = data.draw(st.booleans())
    with rank_of(rank, world_size):
        dtensor = dtensor_of(shape, mesh_of(mesh_shape), layout, requires_grad=requires_grad)
        helpers = OURS.planner_helpers
        for ours, upstream, arguments in (
            (helpers._create_chunk_list, originals.create_chunk_list, (dtensor,)),
            (helpers._create_write_items, originals.create_write_items, ("w", dtensor)),
        ):
            expected: Any = assert_same_answer(ours, upstream, *arguments)
            if isinstance(expected, list):
                assert_same_pickles(ours(*arguments), expected)
