"""Plans of random worlds, shardplan against upstream, in one process.

Every round draws a state dict and a mesh. It plans a save on every rank with both, in each form in
which a coordinator receives plans, writes and reads the metadata file, and then plans a load on
another mesh. shardplan must give upstream's answer in each case, exceptions included.
"""

from __future__ import annotations

import io
import itertools
import pickle
import random
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.tensor import Placement, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from parity import simulation, travel
from parity.comparison import Raised, answer, assert_same
from parity.implementations import OURS, UPSTREAM
from parity.worlds import dtensor_of, mesh_of, sharded_tensor_of
from shardplan.dcp.storage import metadata_file

MESHES = ((1,), (2,), (3,), (5,), (8,), (2, 2), (2, 3), (4, 2), (1, 3), (2, 2, 2), (3, 1, 2))
DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool)

Maker = Callable[[tuple[int, ...]], Any]


class Model:
    """Entries that every rank can create, on any mesh."""

    def __init__(self, draw: random.Random) -> None:
        self.entries: list[tuple[str, str, tuple[int, ...], torch.dtype]] = []
        for at in range(draw.randint(1, 7)):
            kind = draw.choice(("dtensor", "dtensor", "dtensor", "rows", "plain", "object"))
            dims = draw.randint(1 if kind == "rows" else 0, 3)
            shape = tuple(draw.choice((0, 1, 2, 3, 7, 8, 13)) for _ in range(dims))
            self.entries.append((f"part.{at}", kind, shape, draw.choice(DTYPES)))

    def on(self, mesh: tuple[int, ...], draw: random.Random) -> Callable[[int], dict[str, Any]]:
        """The state dict of a rank of this mesh; the placements are drawn once."""
        placements = [self._placements(mesh, len(shape), draw) for _, _, shape, _ in self.entries]

        def make(rank: int) -> dict[str, Any]:
            return {
                name: self._entry(kind, shape, dtype, mesh, placed)
                for (name, kind, shape, dtype), placed in zip(self.entries, placements, strict=True)
            }

        return make

    def _entry(
        self,
        kind: str,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        mesh: tuple[int, ...],
        placements: list[Placement],
    ) -> Any:
        if kind == "object":
            return {"nested": [1, "text"]}
        if kind == "plain":
            return torch.zeros(shape, dtype=dtype)
        if kind == "rows":
            ranks = prod(mesh)
            block = -(-shape[0] // ranks) if shape[0] else 0
            starts = [min(rank * block, shape[0]) for rank in range(ranks + 1)]
            boxes = [
                ([start, *[0] * (len(shape) - 1)], [end - start, *shape[1:]], rank)
                for rank, (start, end) in enumerate(itertools.pairwise(starts))
                if end > start
            ]
            return sharded_tensor_of(shape, boxes, dtype=dtype)
        return dtensor_of(shape, mesh_of(mesh), placements, dtype=dtype)

    @staticmethod
    def _placements(mesh: tuple[int, ...], ndim: int, draw: random.Random) -> list[Placement]:
        made: list[Placement] = []
        for _ in mesh:
            kind = draw.choice("RSSS_") if ndim else "R"
            if kind == "R":
                made.append(Replicate())
            elif kind == "S":
                made.append(Shard(draw.randrange(ndim)))
            else:
                made.append(
                    _StridedShard(draw.randrange(ndim), split_factor=draw.choice((1, 2, 3)))
                )
        return made


def saved(implementation: Any, make: Any, ranks: int, options: dict[str, Any]) -> Any:
    return answer(
        simulation.save_plans,
        lambda: implementation.DefaultSavePlanner(**options),
        make,
        ranks,
    )


def stored(metadata: Metadata, draw: random.Random) -> Metadata:
    """The metadata as a writer saves it."""
    places: dict[MetadataIndex, Any] = {}
    for name, one in metadata.state_dict_metadata.items():
        chunks = one.chunks if isinstance(one, TensorStorageMetadata) else [None]
        for at, chunk in enumerate(chunks):
            key = MetadataIndex(name) if chunk is None else MetadataIndex(name, chunk.offsets, at)
            places[key] = _StorageInfo(f"__{draw.randrange(4)}_0.distcp", at * 100, 90)
    metadata.storage_data = places
    metadata.version = "1.0.0"
    return metadata


def a_round(seed: int) -> None:
    draw = random.Random(seed)
    model, mesh = Model(draw), draw.choice(MESHES)
    make = model.on(mesh, draw)
    options = {
        "dedup_save_to_lowest_rank": draw.random() < 0.5,
        "flatten_state_dict": draw.random() < 0.8,
    }
    theirs = saved(UPSTREAM, make, prod(mesh), options)
    ours = saved(OURS, make, prod(mesh), options)
    assert_same(ours, theirs)
    if isinstance(theirs, Raised):
        return

    # One round trip through a pickle removes attributes that are not set.
    expected = pickle.loads(pickle.dumps(stored(theirs.metadata, draw)))
    written = io.BytesIO()
    metadata_file.dump(expected, written)
    assert_same(pickle.loads(written.getvalue()), expected)
    for data in (written.getvalue(), pickle.dumps(expected)):
        assert_same(metadata_file.load(io.BytesIO(data), "file", False), expected)
    assert_same(travel.sent(expected), expected)

    other = draw.choice(MESHES)
    wanted = model.on(other, draw)
    answers = [
        answer(
            simulation.load_plans,
            lambda each=each: each.DefaultLoadPlanner(
                flatten_state_dict=options["flatten_state_dict"]
            ),
            wanted,
            expected,
            prod(other),
        )
        for each in (OURS, UPSTREAM)
    ]
    assert_same(*answers)
