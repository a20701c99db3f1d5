"""Error messages of the validation of a global plan, identical to upstream's."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

import torch
import torch.distributed.checkpoint.default_planner as upstream_module
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan

from ... import _core
from .. import fallbacks
from ..lazy.items import LazyList
from ..native import native
from ..upstream import originals, replaced_names, versions

# Upstream reports every overlapping pair, but the first few fill its error summary.
_ALL_OVERLAPS = 2**62
_FIRST_OVERLAPS = 16
_MAX_SUMMARY = 500

_OUTSIDE, _SIZE, _OVERLAP, _FILL, _VOLUME = (
    " has out of bounds chunk: tensor-size:",
    " chunk: ",
    " has overlapping chunks: ",
    " invalid fill tensor-volume: ",
    " chunks-volume: ",
)


@functools.cache
def messages_are_known() -> bool:
    """Returns whether the installed torch has the error messages, and the order, used here.

    Compares both implementations on a tensor that has every fault.
    """
    if not versions.validation_returns_messages():
        return False
    metadata = Metadata({"probe": _tensor_with_every_fault()})
    plans = [SavePlan([]), SavePlan([])]
    ours = list(messages_of(plans, "probe", metadata.state_dict_metadata["probe"], False))
    return bool(versions.validate_silently(plans, metadata) == ours)


def _tensor_with_every_fault() -> TensorStorageMetadata:
    """Returns a tensor with a chunk out of bounds, two overlaps and another volume than its own."""
    chunks = [(0, 3), (2, 3), (4, 1), (5, 4)]
    return TensorStorageMetadata(
        TensorProperties(),
        torch.Size([6, 2]),
        [
            ChunkStorageMetadata(torch.Size([start, 0]), torch.Size([length, 2]))
            for start, length in chunks
        ],
    )


def is_native(global_plan: object, metadata: object) -> bool:
    """Returns whether native code can validate this plan; counts a fallback if not."""
    saved = getattr(metadata, "state_dict_metadata", None)
    if type(saved) is not dict or not isinstance(global_plan, list):
        fallbacks.count_operation(
            f"validation of a global plan: the plans are a {type(global_plan).__name__}, "
            f"state_dict_metadata is a {type(saved).__name__}"
        )
        return False
    return replaced_names.VALIDATION.untouched("validation of a global plan")


def messages(global_plan: list[SavePlan], metadata: Metadata, suspects: list[str]) -> Any:
    """Returns and logs what ``default_planner._validate_global_plan`` does for some tensors.

    The cost is near-linear in chunks and messages. If the installed torch has other error messages,
    the upstream function validates these tensors.

    Args:
        global_plan: the plan of each rank.
        metadata: the metadata of the checkpoint.
        suspects: keys of the tensors that are not valid.
    """
    saved = metadata.state_dict_metadata
    if not messages_are_known():
        if suspects:
            fallbacks.count_entries(
                "validation of a global plan: this torch has other error messages"
            )
        return originals.validate_global_plan(
            global_plan, Metadata({key: saved[key] for key in suspects})
        )
    return [
        message for key in suspects for message in messages_of(global_plan, key, saved[key], True)
    ]


def messages_of(global_plan: list[SavePlan], key: str, saved: Any, log: bool) -> Iterable[str]:
    """Returns upstream's messages about one tensor, in upstream's order; logs them if ``log``."""
    boxes = boxes_of(saved)
    volume = None if boxes is None else _core.elements(boxes)
    if boxes is None or volume is None:
        fallbacks.count_entries("validation of a global plan: the boxes of a tensor cannot be read")
        found: list[str] = originals.validate_global_plan(global_plan, Metadata({key: saved}))
        return found
    errors = _errors_of(len(global_plan) > 1, key, saved, boxes, volume)
    return map(_logged, errors) if log else errors


def _logged(message: str) -> str:
    upstream_module.logger.warning(message)
    return message


def boxes_of(saved: Any) -> _core.Boxes | None:
    """Returns the boxes of a saved tensor, or None if native code cannot read them."""
    if type(saved) is not TensorStorageMetadata or not isinstance(saved.size, tuple):
        return None
    if not saved.size or not all(type(size) is int and abs(size) < 2**63 for size in saved.size):
        return None
    boxes: _core.Boxes | None = native.boxes_of(saved.chunks, len(saved.size))
    return boxes


def _errors_of(
    must_fill: bool, key: str, saved: TensorStorageMetadata, boxes: _core.Boxes, volume: int
) -> Iterator[str]:
    size = saved.size

    def chunk(at: int) -> ChunkStorageMetadata:
        if not is_untouched(saved.chunks):
            return saved.chunks[at]
        offsets, sizes = _core.box(boxes, at)
        return ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))

    for at in _core.out_of_bounds(boxes, size):
        yield f"key:{key}{_OUTSIDE}{size}{_SIZE}{chunk(at)}"
    for at, other in _overlaps(boxes, size):
        yield f"key:{key}{_OVERLAP}{chunk(at)} {chunk(other)}"
    if must_fill and volume != prod(size):
        yield f"key:{key}{_FILL}{prod(size)}{_VOLUME}{volume}"


def _overlaps(boxes: _core.Boxes, size: torch.Size) -> Iterator[tuple[int, int]]:
    first = _core.overlaps(boxes, size, _FIRST_OVERLAPS)
    yield from first
    if len(first) == _FIRST_OVERLAPS:
        yield from _core.overlaps(boxes, size, _ALL_OVERLAPS)[_FIRST_OVERLAPS:]


def summary_of(verdict: Any) -> str | None:
    """Returns upstream's error message for the result of a validation; None if it is valid.

    Args:
        verdict: what the validation returned: a list of messages, or a bool that is true if valid.
    """
    if isinstance(verdict, bool):
        return None if verdict else "Failed to validate global plan"
    return summary(verdict or ())


def summary(found: Iterable[str]) -> str | None:
    """Joins messages into upstream's error message; returns None if there are no messages."""
    summary = ""
    is_invalid = False
    for message in found:
        summary += f"; {message}" if is_invalid else message
        is_invalid = True
        if len(summary) > _MAX_SUMMARY:
            summary = summary[:_MAX_SUMMARY] + "... (truncated)"
            break
    return f"Failed to validate global plan: {summary}" if is_invalid else None


def is_untouched(chunks: Any) -> bool:
    """Returns whether these chunks are lazy and not materialized."""
    return type(chunks) is LazyList and chunks.columns is not None
