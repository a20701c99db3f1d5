"""Validation of a global plan: what ``default_planner._validate_global_plan`` finds and says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

import torch
import torch.distributed.checkpoint.default_planner as upstream_module
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan

from ... import _core
from .. import fallbacks
from ..lazy.items import Items
from ..native import native
from ..upstream import originals, replaced_names

# Every pair that overlaps is a message of upstream's; a few fill its summary.
_ALL = 2**62
_FEW = 16
_MAX_WORDS = 500

_OUTSIDE, _SIZE, _OVERLAP, _FILL, _VOLUME = (
    " has out of bounds chunk: tensor-size:",
    " chunk: ",
    " has overlapping chunks: ",
    " invalid fill tensor-volume: ",
    " chunks-volume: ",
)


def _words_are_known() -> bool:
    """Whether the installed torch words what it finds as we do, and looks for it in that order."""
    code = originals.validate_global_plan.__code__
    known = {_OUTSIDE, _SIZE, _OVERLAP, _FILL, _VOLUME}
    return known <= set(code.co_consts) and {"insort", "bisect_right", "errors"} <= {
        *code.co_names,
        *code.co_varnames,
    }


WORDS_ARE_KNOWN = _words_are_known()


def is_native(global_plan: object, metadata: object) -> bool:
    """Whether native code validates this plan; if not, that is counted as a fallback."""
    saved = getattr(metadata, "state_dict_metadata", None)
    if type(saved) is not dict or not isinstance(global_plan, list):
        fallbacks.whole(
            f"validation of a global plan: the plans are a {type(global_plan).__name__}, "
            f"the metadata's a {type(saved).__name__}"
        )
        return False
    return replaced_names.VALIDATION.untouched("validation of a global plan")


def messages(global_plan: list[SavePlan], metadata: Metadata, suspects: Iterable[str]) -> Any:
    """What ``default_planner._validate_global_plan`` returns, and logs, of these tensors.

    Near-linear in chunks and messages; upstream's own code where its words are not known.
    """
    saved = metadata.state_dict_metadata
    if not WORDS_ARE_KNOWN:
        fallbacks.entry("validation of a global plan: this torch words its errors otherwise")
        return originals.validate_global_plan(
            global_plan, Metadata({key: saved[key] for key in suspects})
        )
    return [
        message for key in suspects for message in messages_of(global_plan, key, saved[key], True)
    ]


def messages_of(global_plan: list[SavePlan], key: str, saved: Any, log: bool) -> Iterable[str]:
    """Upstream's messages of one tensor, in its order; logged, where asked for."""
    boxes = boxes_of(saved)
    volume = None if boxes is None else _core.elements(boxes)
    if boxes is None or volume is None:
        fallbacks.entry("validation of a global plan: the boxes of a tensor cannot be read")
        found: list[str] = originals.validate_global_plan(global_plan, Metadata({key: saved}))
        return found
    said = _worded(len(global_plan) > 1, key, saved, boxes, volume)
    return map(_logged, said) if log else said


def _logged(message: str) -> str:
    upstream_module.logger.warning(message)
    return message


def boxes_of(saved: Any) -> _core.Boxes | None:
    if type(saved) is not TensorStorageMetadata or not isinstance(saved.size, tuple):
        return None
    if not saved.size or not all(type(size) is int and abs(size) < 2**63 for size in saved.size):
        return None
    boxes: _core.Boxes | None = native.boxes_of(saved.chunks, len(saved.size))
    return boxes


def _worded(
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
    first = _core.overlaps(boxes, size, _FEW)
    yield from first
    if len(first) == _FEW:
        yield from _core.overlaps(boxes, size, _ALL)[_FEW:]


def summary_of(verdict: Any) -> str | None:
    """Upstream's words for what a validation returned: messages, or True for valid; None if so."""
    if isinstance(verdict, bool):
        return None if verdict else "Failed to validate global plan"
    return summary(verdict or ())


def summary(found: Iterable[str]) -> str | None:
    summary = ""
    said = False
    for message in found:
        summary += f"; {message}" if said else message
        said = True
        if len(summary) > _MAX_WORDS:
            summary = summary[:_MAX_WORDS] + "... (truncated)"
            break
    return f"Failed to validate global plan: {summary}" if said else None


def is_untouched(chunks: Any) -> bool:
    return type(chunks) is Items and chunks.columns is not None
