"""The coordinator's work from the received write results to the Metadata that it sends."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata

import shardplan
from shardplan.dcp import wire
from shardplan.dcp.lazy.items import LazyList

from .agreement import expect, same


def upstream_bytes(sent: Any) -> bytes:
    """Encodes an object as torch does."""
    return pickle.dumps(sent)


def our_bytes(sent: Any) -> bytes:
    """Encodes an object as shardplan does; write results are in the list of shardplan's writer."""
    stream = io.BytesIO()
    wire.Pickler(stream).dump(LazyList(sent) if isinstance(sent, list) else sent)
    return stream.getvalue()


def ours(received: list[bytes], metadata: Metadata, folder: Path) -> bytes:
    """``all_reduce`` of DCP's "write" step: results in, storage_data and file, broadcast out."""
    writer = shardplan.FileSystemWriter(folder, sync_files=False)
    writer.finish(metadata, [pickle.loads(one) for one in received])
    return our_bytes(metadata)


def upstream(received: list[bytes], metadata: Metadata, folder: Path) -> bytes:
    """The same without any part of shardplan."""
    writer = dcp.FileSystemWriter(folder, sync_files=False)
    writer.finish(metadata, [pickle.loads(one) for one in received])
    return upstream_bytes(metadata)


def agree(mine: bytes, theirs: bytes, folders: tuple[Path, Path]) -> None:
    """Compares the ranks' Metadata and the two files, except for paths and times."""
    files = [pickle.loads((folder / ".metadata").read_bytes()) for folder in folders]
    for found, expected in ((pickle.loads(mine), pickle.loads(theirs)), files):
        for one in (found, expected):
            one.storage_meta = None
        expect(same(found, expected), "the final metadata differs")
