"""Every difference between the supported releases of torch (2.11 to 2.15) that Python code handles.

Each difference is found by attribute, signature or behaviour, never by version number, so that a
build from source and a backport are told apart correctly. The differences that native code handles
are in ``csrc/bindings/torch/upstream/versions.h``. ``docs/architecture.md`` says what to change for
a new release.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import types
from typing import Any, cast

import torch
from torch.distributed.checkpoint import filesystem, planner_helpers
from torch.distributed.checkpoint.metadata import Metadata

from . import originals

# torch 2.14 and later: the write items of a local tensor that holds shards of a global one.
get_checkpointable_tensor_write_items = getattr(
    planner_helpers, "_get_checkpointable_tensor_write_items", None
)
_is_checkpointable_tensor = getattr(planner_helpers, "_is_checkpointable_tensor", None)


def global_shape(tensor: torch.Tensor) -> tuple[int, ...]:
    """Returns the shape that a checkpoint has for a tensor of a state dict.

    With torch 2.14 and later, a local tensor can have the fields of a ``CheckpointableTensor``.
    """
    if _is_checkpointable_tensor is not None and _is_checkpointable_tensor(tensor):
        return tuple(cast(Any, tensor).global_shape)
    return tuple(tensor.shape)


@functools.cache
def validation_returns_messages() -> bool:
    """Returns whether ``_validate_global_plan`` returns messages. In torch 2.11, it is a bool."""
    return inspect.signature(originals.validate_global_plan).return_annotation not in (bool, "bool")


def validate_silently(global_plan: list[Any], metadata: Metadata) -> Any:
    """Returns the verdict of upstream's own code on a plan, without logging it.

    Neither a caller's logger nor a twin that is registered in upstream's module is called.
    """
    upstream = originals.validate_global_plan
    names = {
        "logger": logging.Logger(__name__, logging.CRITICAL + 1),
        "_check_box_bounds": originals.check_box_bounds,
        "_check_box_overlap": originals.check_box_overlap,
    }
    silent = types.FunctionType(
        upstream.__code__,
        {**upstream.__globals__, **names},
        upstream.__name__,
        upstream.__defaults__,
        upstream.__closure__,
    )
    return silent(global_plan, metadata)


@functools.cache
def unsupported_fsync_warns() -> bool:
    """Returns whether upstream warns of a stream that it cannot fsync.

    torch 2.13 and before call ``os.sync`` then, and do not flush the stream before fsync.
    """
    return "sync" not in originals.writer_finish.__code__.co_names


@functools.cache
def finish_changes_its_argument() -> bool:
    """Returns whether ``FileSystemWriter.finish`` sets ``storage_data`` on its argument.

    torch 2.11 sets it on a copy, so that the Metadata which ``dcp.save`` returns lacks it. The
    function is called with a writer that stops it before it touches a file.
    """

    class Stop(Exception):
        pass

    class Writer(filesystem.FileSystemWriter):
        def __init__(self) -> None:
            pass

        def storage_meta(self) -> Any:
            raise Stop

    metadata = Metadata({})
    with contextlib.suppress(Stop):
        originals.writer_finish(Writer(), metadata, [])
    return metadata.storage_data is not None
