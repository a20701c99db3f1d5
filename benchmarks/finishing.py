"""What the coordinator does from the write results that arrive to the Metadata that it sends."""

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
    """What torch sends."""
    return pickle.dumps(sent)


def our_bytes(sent: Any) -> bytes:
    """What shardplan sends; write results in the list that our writer gives."""
    stream = io.BytesIO()
    wire.Pickler(stream).dump(LazyList(sent) if isinstance(sent, list) else sent)
    return stream.getvalue()


def ours(arrived: list[bytes], metadata: Metadata, folder: Path) -> bytes:
    """``all_reduce`` of DCP's "write" step: results in, storage_data and file, broadcast out."""
    writer = shardplan.FileSystemWriter(folder, sync_files=False)
    writer.finish(metadata, [pickle.loads(one) for one in arrived])
    return our_bytes(metadata)


def upstream(arrived: list[bytes], metadata: Metadata, folder: Path) -> bytes:
    """The same, no part of it touching shardplan."""
    writer = dcp.FileSystemWriter(folder, sync_files=False)
    writer.finish(metadata, [pickle.loads(one) for one in arrived])
    return upstream_bytes(metadata)


def agree(mine: bytes, theirs: bytes, folders: tuple[Path, Path]) -> None:
    """What the ranks get, and the two files, which upstream reads, but for where and when."""
    files = [pickle.loads((folder / ".metadata").read_bytes()) for folder in folders]
    for found, expected in ((pickle.loads(mine), pickle.loads(theirs)), files):
        for one in (found, expected):
            one.storage_meta = None
        expect(same(found, expected), "ours and upstream finish with other metadata")
