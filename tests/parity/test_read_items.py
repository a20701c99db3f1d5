"""Read items: which saved chunks are read into which wanted chunks."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadItemType

from parity.boxes import (
    BROKEN_CHUNKS,
    chunk,
    column_chunks,
    grid_chunks,
    row_chunks,
    tensor_metadata,
)
from parity.comparison import Raised, answer, assert_same_answer, assert_same_pickles
from parity.implementations import OURS, Implementation
from parity.samples import DTENSORS, OBJECTS, SHARDED_TENSORS, TENSORS, WORLD_SIZE
from parity.worlds import rank_of
from shardplan.dcp.upstream import originals

ours = OURS.planner_helpers.create_read_items_for_chunk_list
upstream = originals.create_read_items_for_chunk_list


def check(saved: Any, wanted: Any, shape: tuple[int, ...] = (4, 4)) -> Any:
    metadata = tensor_metadata(shape, saved)
    expected = assert_same_answer(ours, upstream, "w", metadata, wanted)
    if not isinstance(expected, Raised):
        assert_same_pickles(ours("w", metadata, wanted), expected)
    return expected


def test_reshard_of_rows(implementation: Implementation) -> None:
    items = implementation.planner_helpers.create_read_items_for_chunk_list(
        "w", tensor_metadata((8,), row_chunks(8, 2)), row_chunks(8, 3)
    )
    assert [
        (
            item.storage_index.index,
            tuple(item.storage_offsets),
            item.dest_index.index,
            tuple(item.dest_offsets),
            tuple(item.lengths),
        )
        for item in items
    ] == [
        (0, (0,), 0, (0,), (3,)),
        (0, (3,), 1, (0,), (1,)),
        (1, (0,), 1, (1,), (2,)),
        (1, (2,), 2, (0,), (2,)),
    ]
    assert {item.type for item in items} == {LoadItemType.TENSOR}
    assert items[1].dest_index.fqn == "w"
    assert items[1].dest_index.offset == torch.Size([3])


@pytest.mark.parametrize("count", [1, 3, 4, 5, 40])
@pytest.mark.parametrize("parts", [1, 2, 7, 30])
def test_layouts_against_each_other(count: int, parts: int) -> None:
    layouts = [
        row_chunks(30, parts, 24),
        column_chunks((30,), 24, parts),
        grid_chunks((30, 24), (parts, 3)),
    ]
    wanted = [row_chunks(30, count, 24), column_chunks((30,), 24, count)]
    for saved in layouts:
        for local in wanted:
            assert check(saved, local, (30, 24))


@pytest.mark.parametrize("seed", range(5))
def test_order_of_shuffled_chunks(seed: int) -> None:
    shuffled = random.Random(seed)
    saved, wanted = grid_chunks((12, 9, 5), (4, 3, 2)), grid_chunks((12, 9, 5), (3, 3, 1))
    shuffled.shuffle(saved)
    shuffled.shuffle(wanted)
    check(saved, wanted, (12, 9, 5))


def test_duplicates_are_all_read() -> None:
    assert len(check(row_chunks(4, 2, 4) * 3, row_chunks(4, 1, 4) * 2)) == 12


def test_nothing_saved_or_wanted() -> None:
    for saved in ([], None, ()):
        for wanted in ([], None, ()):
            assert check(saved, wanted) == []
        check(saved, row_chunks(4, 2, 4))
        check(row_chunks(4, 2, 4), saved)


def test_no_dims() -> None:
    whole = [chunk((), ())]
    assert len(check(whole, whole, ())) == 1
    assert len(check(whole * 2, whole * 6, ())) == 12


def test_zero_size_chunks() -> None:
    empty = [chunk((0, 0), (0, 4)), chunk((2, 0), (0, 4)), chunk((4, 0), (0, 4))]
    for saved in (empty, row_chunks(4, 2, 4), [*empty, *row_chunks(4, 2, 4)]):
        for wanted in (empty, empty[1:2], row_chunks(4, 2, 4), [*row_chunks(4, 4, 4), *empty]):
            check(saved, wanted)


@pytest.mark.parametrize("broken", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
@pytest.mark.parametrize("wanted_count", [1, 6])
def test_broken_chunk(broken: Any, wanted_count: int) -> None:
    whole = row_chunks(4, 2, 4)
    wanted = column_chunks((4,), 6, wanted_count)
    for saved in ([broken], [broken, *whole], [*whole, broken]):
        check(saved, wanted)
        check(wanted, saved)
        check(saved, saved)


@pytest.mark.parametrize(
    "saved",
    [
        tuple(row_chunks(4, 2, 4)),
        dict(enumerate(row_chunks(4, 2, 4))),
        iter(row_chunks(4, 2, 4)),
        "chunks",
        7,
    ],
    ids=["tuple", "dict", "iterator", "string", "number"],
)
def test_chunks_that_are_not_a_list(saved: Any) -> None:
    # An iterator can be read only once, so each implementation gets a new one.
    def again() -> Any:
        return iter(row_chunks(4, 2, 4)) if hasattr(saved, "__next__") else saved

    whole = row_chunks(4, 1, 4)
    assert answer(ours, "w", tensor_metadata((4, 4), again()), whole) == answer(
        upstream, "w", tensor_metadata((4, 4), again()), whole
    )
    assert answer(ours, "w", tensor_metadata((4, 4), whole), again()) == answer(
        upstream, "w", tensor_metadata((4, 4), whole), again()
    )


def test_metadata_of_another_type() -> None:
    class Other(TensorStorageMetadata):
        pass

    whole = tensor_metadata((4, 4), row_chunks(4, 2, 4))
    for metadata in (
        None,
        3,
        BytesStorageMetadata(),
        Other(whole.properties, whole.size, whole.chunks),
    ):
        assert_same_answer(ours, upstream, "w", metadata, row_chunks(4, 1, 4))


@pytest.mark.parametrize("name", ["", "ключ", "\ud800", 7, None, ("a",)])
def test_any_name(name: Any) -> None:
    assert_same_answer(
        ours, upstream, name, tensor_metadata((4, 4), row_chunks(4, 2, 4)), row_chunks(4, 1, 4)
    )


def read_items_of(make: Any) -> None:
    obj = make()
    shape = tuple(obj.size()) if isinstance(obj, torch.Tensor) else (4,)
    saved = row_chunks(shape[0], 2, *shape[1:]) if shape else [chunk((), ())]
    for metadata in (tensor_metadata(shape, saved), BytesStorageMetadata(), None, "metadata"):
        assert_same_answer(
            OURS.planner_helpers._create_read_items, originals.create_read_items, "w", metadata, obj
        )


@pytest.mark.parametrize("make", [*TENSORS.values(), *OBJECTS.values()], ids=[*TENSORS, *OBJECTS])
def test_read_items_of_one_object(make: Any) -> None:
    read_items_of(make)


@pytest.mark.parametrize(
    "make", [*DTENSORS.values(), *SHARDED_TENSORS.values()], ids=[*DTENSORS, *SHARDED_TENSORS]
)
def test_read_items_of_one_object_in_a_world(make: Any) -> None:
    for rank in range(WORLD_SIZE):
        with rank_of(rank, WORLD_SIZE):
            read_items_of(make)
