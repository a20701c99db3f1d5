"""Metadata files in memory."""

from __future__ import annotations

import io
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata

from shardplan.dcp.storage import metadata_file


def written(saved: Metadata) -> bytes:
    stream = io.BytesIO()
    metadata_file.dump(saved, stream)
    return stream.getvalue()


def read(pickled: bytes, trust: bool = False) -> Any:
    return metadata_file.load(io.BytesIO(pickled), "here/.metadata", trust)
