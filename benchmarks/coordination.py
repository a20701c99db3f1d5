"""The coordinator's work from the received plans to the plans that it sends."""

from __future__ import annotations

import io
import pickle
import tempfile
from collections.abc import Iterable
from typing import Any

from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan

from shardplan import default_planner
from shardplan.dcp import wire
from shardplan.dcp.upstream import originals

from .agreement import expect, same

Coordinated = tuple[list[bytes], Metadata]


def upstream_bytes(plan: SavePlan) -> bytes:
    """Encodes a plan as torch does."""
    return pickle.dumps(plan)


def our_bytes(plan: SavePlan) -> bytes:
    """Encodes a plan as shardplan does."""
    stream = io.BytesIO()
    wire.Pickler(stream).dump(plan)
    return stream.getvalue()


def coordinate(
    received: Iterable[bytes], planner: originals.DefaultSavePlanner, send: Any, make_chunks: bool
) -> Coordinated:
    """``reduce_scatter`` of DCP's "plan" step, bytes in to bytes out.

    make_chunks: also run ``finish_plan``, after which every chunk of Metadata is an upstream object
    """
    plans = [pickle.loads(one) for one in received]
    plans, metadata = planner.create_global_plan(plans)
    plans = FileSystemWriter(tempfile.gettempdir()).prepare_global_plan(plans)
    sent = [send(plan) for plan in plans]
    if make_chunks:
        planner.finish_plan(plans[0])
    return sent, metadata


def ours(received: list[bytes], make_chunks: bool) -> Coordinated:
    return coordinate(received, default_planner.DefaultSavePlanner(), our_bytes, make_chunks)


def upstream(received: list[bytes]) -> Coordinated:
    """Runs upstream's planner with upstream's pickles; no part of it uses shardplan."""
    return coordinate(received, originals.DefaultSavePlanner(), upstream_bytes, False)


def agree(mine: Coordinated, theirs: Coordinated) -> None:
    """Compares every rank's final plan, with its chunk indices, and the metadata."""
    expect(
        list(mine[1].planner_data.items()) == list(theirs[1].planner_data.items()),
        "the merged mappings differ",
    )
    expect(same(mine[1], theirs[1]), "the metadata differs")
    for one, other in zip(mine[0], theirs[0], strict=True):
        expect(
            same(pickle.loads(one).items, pickle.loads(other).items),
            "the sent plans differ",
        )
