"""Write items and chunks of one object, of every kind, from every rank of a world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode

from parity.comparison import (
    Raised,
    answer,
    assert_same,
    assert_same_answer,
    assert_same_pickles,
)
from parity.implementations import OURS
from parity.samples import DTENSORS, OBJECTS, SHARDED_TENSORS, TENSORS, WORLD_SIZE
from parity.worlds import dtensor_of, mesh_of, rank_of
from shardplan.dcp.upstream import originals

EVERY_OBJECT = {
    **{f"tensor: {name}": make for name, make in TENSORS.items()},
    **{f"object: {name}": make for name, make in OBJECTS.items()},
}
EVERY_SHARDED = {
    **{f"DTensor: {name}": make for name, make in DTENSORS.items()},
    **{f"ShardedTensor: {name}": make for name, make in SHARDED_TENSORS.items()},
}
helpers = OURS.planner_helpers


@pytest.fixture(params=range(WORLD_SIZE), ids=lambda rank: f"rank{rank}")
def rank(request: pytest.FixtureRequest) -> Iterator[int]:
    with rank_of(request.param, WORLD_SIZE):
        yield request.param


def check_items(make: Callable[[], Any]) -> Any:
    obj = make()
    expected = assert_same_answer(
        helpers._create_write_items, originals.create_write_items, "model.weight", obj
    )
    if not isinstance(expected, Raised):
        assert_same_pickles(
            helpers._create_write_items("model.weight", obj),
            originals.create_write_items("model.weight", obj),
        )
    return expected


@pytest.mark.parametrize("make", EVERY_OBJECT.values(), ids=EVERY_OBJECT)
def test_write_items(make: Callable[[], Any]) -> None:
    check_items(make)


@pytest.mark.parametrize("make", EVERY_SHARDED.values(), ids=EVERY_SHARDED)
def test_write_items_in_a_world(make: Callable[[], Any], rank: int) -> None:
    check_items(make)


@pytest.mark.parametrize("make", EVERY_OBJECT.values(), ids=EVERY_OBJECT)
def test_chunk_list(make: Callable[[], Any]) -> None:
    assert_same_answer(helpers._create_chunk_list, originals.create_chunk_list, make())


@pytest.mark.parametrize("make", EVERY_SHARDED.values(), ids=EVERY_SHARDED)
def test_chunk_list_in_a_world(make: Callable[[], Any], rank: int) -> None:
    assert_same_answer(helpers._create_chunk_list, originals.create_chunk_list, make())


@pytest.mark.parametrize("make", TENSORS.values(), ids=TENSORS)
def test_write_item_for_tensor(make: Callable[[], Any]) -> None:
    tensor = make()
    assert_same_answer(
        helpers._create_write_item_for_tensor, originals.create_write_item_for_tensor, "w", tensor
    )
    assert_same_answer(
        helpers._create_chunk_from_tensor, originals.create_chunk_from_tensor, tensor
    )


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_tensor_functions_given_no_tensor(make: Callable[[], Any]) -> None:
    obj = make()
    for ours, upstream in (
        (helpers._create_write_item_for_tensor, originals.create_write_item_for_tensor),
        (helpers._create_write_items_for_dtensor, originals.create_write_items_for_dtensor),
    ):
        assert_same_answer(ours, upstream, "w", obj)
    for ours, upstream in (
        (helpers._create_chunk_from_tensor, originals.create_chunk_from_tensor),
        (helpers._create_chunk_from_dtensor, originals.create_chunk_from_dtensor),
    ):
        assert_same_answer(ours, upstream, obj)


@pytest.mark.parametrize("make", DTENSORS.values(), ids=DTENSORS)
def test_write_item_for_dtensor(make: Callable[[], Any], rank: int) -> None:
    dtensor = make()
    assert_same_answer(
        helpers._create_write_items_for_dtensor,
        originals.create_write_items_for_dtensor,
        "w",
        dtensor,
    )
    assert_same_answer(
        helpers._create_chunk_from_dtensor, originals.create_chunk_from_dtensor, dtensor
    )
    # A DTensor is also a tensor.
    assert_same_answer(
        helpers._create_write_item_for_tensor, originals.create_write_item_for_tensor, "w", dtensor
    )
    assert_same_answer(
        helpers._create_chunk_from_tensor, originals.create_chunk_from_tensor, dtensor
    )


@pytest.mark.parametrize("name", ["model.weight", "", "ключ", "\ud800", 7, None, ("a",), 1.5])
def test_write_items_of_any_name(name: Any) -> None:
    for obj in (torch.zeros(2), torch.zeros(()), 3, object()):
        assert_same_answer(helpers._create_write_items, originals.create_write_items, name, obj)


@pytest.mark.parametrize("grad_mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("local_grad", [False, True])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_requires_grad_of_a_dtensor_follows_grad_mode(
    grad_mode: Callable[[], Any], local_grad: bool, requires_grad: bool
) -> None:
    with rank_of(1, 2):
        plain = dtensor_of((4, 2), mesh_of((2,)), [torch.distributed.tensor.Shard(0)])
        local = plain._local_tensor.requires_grad_(local_grad)
        dtensor = DTensor(local, plain._spec, requires_grad=requires_grad)
        with grad_mode():
            expected = assert_same_answer(
                helpers._create_write_items, originals.create_write_items, "w", dtensor
            )
    assert not isinstance(expected, Raised)


def test_planning_a_dtensor_communicates_nothing() -> None:
    with rank_of(1, 2):
        dtensor = dtensor_of((5,), mesh_of((2,)), [torch.distributed.tensor.Shard(0)])
        with CommDebugMode() as seen:
            helpers._create_write_items("w", dtensor)
        assert seen.get_total_counts() == 0


def test_sharded_tensor_helpers(rank: int) -> None:
    for make in SHARDED_TENSORS.values():
        tensor = make()
        for shard in tensor.metadata().shards_metadata:
            for ours, upstream, arguments in (
                (helpers._chunk_for_shard, originals.chunk_for_shard, (shard,)),
                (
                    helpers._sharded_tensor_metadata,
                    originals.sharded_tensor_metadata,
                    (tensor, shard),
                ),
                (
                    helpers._create_write_item_for_shard,
                    originals.create_write_item_for_shard,
                    ("w", tensor, shard),
                ),
            ):
                assert_same_answer(ours, upstream, *arguments)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda shard: setattr(shard, "shard_offsets", (0,)),
        lambda shard: setattr(shard, "shard_offsets", [0, 0]),
        lambda shard: setattr(shard, "shard_offsets", [2**63]),
        lambda shard: setattr(shard, "shard_offsets", [1.5]),
        lambda shard: setattr(shard, "shard_offsets", None),
        lambda shard: setattr(shard, "shard_sizes", [-1]),
        lambda shard: setattr(shard, "shard_sizes", torch.Size([3])),
        lambda shard: delattr(shard, "shard_sizes"),
    ],
    ids=["tuple", "dims", "beyond int64", "float", "none", "negative", "size", "missing"],
)
def test_broken_shard_metadata(break_it: Callable[[Any], None]) -> None:
    with rank_of(0, WORLD_SIZE):
        tensor = SHARDED_TENSORS["several shards a rank"]()
        break_it(tensor.local_shards()[0].metadata)
        for ours, upstream in (
            (helpers._create_write_items, originals.create_write_items),
            (
                lambda _, obj: helpers._create_chunk_list(obj),
                lambda _, obj: originals.create_chunk_list(obj),
            ),
        ):
            assert_same_answer(ours, upstream, "w", tensor)


def test_items_do_not_share_properties() -> None:
    tensor = torch.zeros(2)
    first = helpers._create_write_items("a", tensor)[0]
    second = helpers._create_write_items("b", tensor)[0]
    first.tensor_data.properties.dtype = torch.float16
    assert second.tensor_data.properties.dtype is torch.float32


def test_plan_of_metadata_only(rank: int) -> None:
    state_dict = {
        "plain": torch.zeros(3),
        "shard": DTENSORS["shard uneven"](),
        "sharded": SHARDED_TENSORS["several shards a rank"](),
        "bytes": 3,
    }
    assert_same_answer(
        helpers._create_default_metadata_only_plan,
        originals.create_default_metadata_only_plan,
        state_dict,
    )
    assert_same_answer(
        OURS.default_planner._create_default_local_metadata,
        originals.create_default_local_metadata,
        {"plain": torch.zeros(3), "bytes": 3},
    )


def test_item_constructors() -> None:
    index = originals.create_write_items("a", torch.zeros(2))[0].index
    for ours, upstream, arguments in (
        (helpers._create_write_item_for_bytesio, originals.create_write_item_for_bytesio, ("a", 3)),
        (
            helpers._create_read_item_for_byteio,
            originals.create_read_item_for_byteio,
            (index, 0, index, 0, 4),
        ),
        (
            helpers._create_read_item_for_tensor,
            originals.create_read_item_for_tensor,
            (index, (0,), index, (1,), (4,)),
        ),
    ):
        assert_same(answer(ours, *arguments), answer(upstream, *arguments))
