"""The error of a global plan that is not valid: upstream's words, then what is wrong and whose."""

from __future__ import annotations

from . import _fit  # noqa: F401

# isort: split
import logging
from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

import torch
import torch.distributed.checkpoint.default_planner as stock_module
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan

from . import _core, _diagnosis, _fallbacks, _hooks, _stock
from ._items import Items
from ._native import native

logger = logging.getLogger(__name__)

# Every pair that overlaps is a message of upstream's; a few fill its summary.
_ALL = 2**62
_FEW = 16
_MOST_WORDS = 500
# What an error says: its first line is upstream's, all of it stays well under what every rank gets.
_MOST_TENSORS = 5
_MOST_TEXT = 8_000

_OUTSIDE, _SIZE, _OVERLAP, _FILL, _VOLUME = (
    " has out of bounds chunk: tensor-size:",
    " chunk: ",
    " has overlapping chunks: ",
    " invalid fill tensor-volume: ",
    " chunks-volume: ",
)


def _words_are_known() -> bool:
    """Whether the installed torch words what it finds as we do, and looks for it in that order."""
    code = _stock.validate_global_plan.__code__
    known = {_OUTSIDE, _SIZE, _OVERLAP, _FILL, _VOLUME}
    return known <= set(code.co_consts) and {"insort", "bisect_right", "errors"} <= {
        *code.co_names,
        *code.co_varnames,
    }


_KNOWN = _words_are_known()


def is_native(global_plan: object, metadata: object) -> bool:
    """Whether native code validates this plan; if not, that is counted as a fallback."""
    saved = getattr(metadata, "state_dict_metadata", None)
    if type(saved) is not dict or not isinstance(global_plan, list):
        _fallbacks.whole(
            f"validation of a global plan: the plans are a {type(global_plan).__name__}, "
            f"the metadata's a {type(saved).__name__}"
        )
        return False
    return _hooks.VALIDATION.untouched("validation of a global plan")


def messages(global_plan: list[SavePlan], metadata: Metadata, suspects: Iterable[str]) -> Any:
    """What ``default_planner._validate_global_plan`` returns, and logs, of these tensors.

    Near-linear in chunks and messages; upstream's own code where its words are not known.
    """
    saved = metadata.state_dict_metadata
    if not _KNOWN:
        _fallbacks.entry("validation of a global plan: this torch words its errors otherwise")
        return _stock.validate_global_plan(
            global_plan, Metadata({key: saved[key] for key in suspects})
        )
    return [
        message for key in suspects for message in _of_tensor(global_plan, key, saved[key], True)
    ]


def _of_tensor(global_plan: list[SavePlan], key: str, saved: Any, log: bool) -> Iterable[str]:
    """Upstream's messages of one tensor, in its order; logged, where asked for."""
    boxes = _boxes(saved)
    volume = None if boxes is None else _core.elements(boxes)
    if boxes is None or volume is None:
        _fallbacks.entry("validation of a global plan: the boxes of a tensor cannot be read")
        stock: list[str] = _stock.validate_global_plan(global_plan, Metadata({key: saved}))
        return stock
    said = _worded(len(global_plan) > 1, key, saved, boxes, volume)
    return map(_logged, said) if log else said


def _logged(message: str) -> str:
    stock_module.logger.warning(message)
    return message


def _boxes(saved: Any) -> _core.Boxes | None:
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
        if not _is_untouched(saved.chunks):
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


def raise_if_invalid(
    all_plans: list[SavePlan], global_plan: list[SavePlan], metadata: Metadata
) -> None:
    """Raises what upstream raises of a global plan that is not valid, and says more.

    ``ValueError``: upstream's words, the diagnosis of the worst tensors, and a ``report`` of plain
    data. All of it is logged.

    all_plans: the local plans, before what several ranks have is dropped
    """
    if not is_native(global_plan, metadata):
        raise_verdict(_stock.validate_global_plan(global_plan, metadata))
        return
    saved = metadata.state_dict_metadata
    suspects = native.suspects(saved, len(global_plan) > 1)
    if not suspects:
        return
    if _KNOWN:
        words = _summary(
            message
            for key in suspects
            for message in _of_tensor(global_plan, key, saved[key], False)
        )
    else:
        words = summary_of(messages(global_plan, metadata, suspects))
    if words is None:
        return
    error = ValueError(words)
    try:
        whole = _report(all_plans, global_plan, metadata, suspects)
        if whole["tensors"]:
            logger.error("the save plan is not valid: %s", _diagnosis.text(whole))
            said = _diagnosis.text(whole, _MOST_TENSORS)
            error = ValueError(f"{words}\n{said[:_MOST_TEXT]}")
            error.report = _diagnosis.shortened(whole)  # type: ignore[attr-defined]
    except Exception:
        # What is wrong with a plan must reach the ranks, whatever becomes of its diagnosis.
        logger.exception("no diagnosis of a save plan that is not valid")
    raise error


def raise_verdict(verdict: Any) -> None:
    """Raises upstream's error for what a validation returned: messages, or True for valid."""
    if words := summary_of(verdict):
        raise ValueError(words)


def summary_of(verdict: Any) -> str | None:
    """Upstream's words for what a validation returned: messages, or True for valid; None if so."""
    if isinstance(verdict, bool):
        return None if verdict else "Failed to validate global plan"
    return _summary(verdict or ())


def _summary(found: Iterable[str]) -> str | None:
    summary = ""
    said = False
    for message in found:
        summary += f"; {message}" if said else message
        said = True
        if len(summary) > _MOST_WORDS:
            summary = summary[:_MOST_WORDS] + "... (truncated)"
            break
    return f"Failed to validate global plan: {summary}" if said else None


def _report(
    all_plans: list[SavePlan],
    global_plan: list[SavePlan],
    metadata: Metadata,
    suspects: list[str],
) -> dict[str, Any]:
    must_fill = len(global_plan) > 1
    saved: dict[str, Any] = metadata.state_dict_metadata
    boxes_of = {key: boxes for key in suspects if (boxes := _boxes(saved[key])) is not None}
    known = list(boxes_of)
    writers = native.writers_of([plan.items for plan in global_plan], known) or {}
    holders = native.holders_of([plan.items for plan in all_plans], known) or {}
    unknown = [key for key in known if not _is_untouched(saved[key].chunks)]
    if not writers:
        unknown = known
    of_items = _writers_by_box(global_plan, set(unknown)) if unknown else {}
    found = []
    for key, boxes in boxes_of.items():
        owners = _in_order(of_items[key], boxes) if key in of_items else writers[key]
        shape = tuple(saved[key].size)
        of_key = _diagnosis.Saved(key, shape, boxes, owners, holders.get(key, ()))
        if faults := _diagnosis.find_faults(of_key, must_fill):
            found.append(faults)
    return _diagnosis.report(found, len(saved), len(all_plans))


def _is_untouched(chunks: Any) -> bool:
    return type(chunks) is Items and chunks.columns is not None


_ByBox = dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]]


def _writers_by_box(global_plan: list[SavePlan], keys: set[str]) -> dict[str, _ByBox]:
    """The ranks whose items write each box of these tensors."""
    found: dict[str, _ByBox] = {key: {} for key in keys}
    for rank, plan in enumerate(global_plan):
        for item in plan.items:
            if item.index.fqn in keys and item.tensor_data is not None:
                chunk = item.tensor_data.chunk
                box = tuple(chunk.offsets), tuple(chunk.sizes)
                found[item.index.fqn].setdefault(box, []).append(rank)
    return found


def _in_order(ranks: _ByBox, boxes: _core.Boxes) -> list[int | None]:
    owners: list[int | None] = []
    for at in range(len(boxes)):
        offsets, sizes = _core.box(boxes, at)
        of_box = ranks.get((tuple(offsets), tuple(sizes)), [])
        owners.append(of_box.pop(0) if of_box else None)
    return owners
