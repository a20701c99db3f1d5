"""What the error of the installed torch's ``dcp.load`` says of metadata that cannot be read."""

from __future__ import annotations

import functools
from typing import Any

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException


@functools.cache
def a_load_has_the_reason() -> bool:
    """Returns whether the error has that of ``read_metadata``. torch 2.11 drops it."""

    class Reader(dcp.FileSystemReader):
        def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
            raise OSError("the reason")

    try:
        dcp.load({}, storage_reader=Reader(""), no_dist=True)
    except CheckpointException as error:
        return "the reason" in str(error)
    raise AssertionError("a load without metadata has no error")


def words_of_a_load(reason: str) -> str:
    """Returns words of a load's error about metadata that cannot be read for this reason."""
    return reason if a_load_has_the_reason() else "metadata is None"
