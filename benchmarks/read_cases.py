"""Rows of the planning of one tensor: its read items, and its chunk."""

from __future__ import annotations

from collections.abc import Iterator

from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.tensor import DTensor

from shardplan import planner_helpers
from shardplan._core import Boxes as CoreBoxes
from shardplan._core import overlap_pairs
from shardplan.dcp.native import native
from shardplan.dcp.upstream import originals

from .agreement import expect
from .harness import Row, Speedup, alternate, race
from .workloads import Boxes, Parallelism, Parameter, fsdp_tp, sharded, state_dict, world

FQN = "model.weight"


def read_items(full: bool) -> Iterator[Row]:
    """8,192 saved and 4,096 wanted chunks along the smaller dim; upstream compares all pairs."""
    shape = (20_011, 131_072)
    saved_boxes, wanted_boxes = sharded(shape, 0, 8_192), sharded(shape, 0, 4_096)
    saved, wanted = saved_boxes.saved(), wanted_boxes.chunks()
    ours, upstream = race(
        lambda: planner_helpers.create_read_items_for_chunk_list(FQN, saved, wanted),
        lambda: originals.create_read_items_for_chunk_list(FQN, saved, wanted),
        upstream_seconds=20 if full else 4,
    )
    items = planner_helpers.create_read_items_for_chunk_list(FQN, saved, wanted)
    work = f"read items, 8,192 saved x 4,096 wanted ({len(items):,} reads), small dim"
    yield Speedup(work, "upstream chunks read, items materialized", ours, upstream, target=250)

    def as_columns() -> object:
        return native.read_columns(FQN, saved.chunks, wanted)

    # `race` has just checked the items that are created from these columns.
    (ours,) = alternate((as_columns,), loops=(10,))
    yield Speedup(work, "upstream chunks read, items stay lazy", ours, upstream, target=1_000)

    saved_columns, wanted_columns = _core_boxes(saved_boxes), _core_boxes(wanted_boxes)
    expect(
        overlap_pairs(saved_columns, wanted_columns) == _pairs(items),
        "the pairs in columns differ from upstream's",
    )
    (ours,) = alternate((lambda: overlap_pairs(saved_columns, wanted_columns),), loops=(10,))
    yield Speedup(work, "columns in, columns out", ours, upstream, target=None)


def _core_boxes(boxes: Boxes) -> CoreBoxes:
    return CoreBoxes(boxes.ndim, boxes.offsets, boxes.sizes)


def _pairs(items: list[ReadItem]) -> tuple[list[int | None], list[int | None]]:
    """Returns the wanted and the saved chunk of each item."""
    return [item.dest_index.index for item in items], [item.storage_index.index for item in items]


def strided_chunk(full: bool) -> Iterator[Row]:
    """The chunk of one DTensor under FSDP x TP; upstream's time grows with the shard's length."""
    for mesh_shape in ((4, 2), (128, 8)):
        parallelism = fsdp_tp(*mesh_shape)
        with world(parallelism.ranks // 2 + 1, parallelism.ranks):
            yield _strided_chunk(parallelism, rounds=25 if full else 15)


def _strided_chunk(parallelism: Parallelism, rounds: int) -> Row:
    tensor: DTensor
    (tensor,) = state_dict({FQN: Parameter((131_072, 1_024), 0)}, parallelism).values()
    ours, upstream = race(
        lambda: planner_helpers._create_chunk_from_dtensor(tensor),
        lambda: originals.create_chunk_from_dtensor(tensor),
        rounds,
        loops=(1_000, 5),
    )
    mesh = " x ".join(map(str, parallelism.mesh_shape))
    work = f"chunk of one _StridedShard DTensor, dim {tensor.shape[0]:,}, mesh {mesh}"
    return Speedup(work, "upstream chunk created", ours, upstream, target=500)
