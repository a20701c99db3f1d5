"""The error of a global plan that is not valid: upstream's words, then what is wrong and whose."""

from __future__ import annotations

import logging
from typing import Any

from torch.distributed.checkpoint.metadata import (
    Metadata,
)
from torch.distributed.checkpoint.planner import SavePlan

from ... import _core
from ...diagnosis import box_faults
from ..native import native
from ..twins import validation
from ..upstream import originals

logger = logging.getLogger(__name__)

# What an error says: its first line is upstream's, all of it stays well under what every rank gets.
_MAX_TENSORS = 5
_MAX_TEXT = 8_000


def raise_if_invalid(
    all_plans: list[SavePlan], global_plan: list[SavePlan], metadata: Metadata
) -> None:
    """Raises what upstream raises of a global plan that is not valid, and says more.

    ``ValueError``: upstream's words, the diagnosis of the worst tensors, and a ``report`` of plain
    data. All of it is logged.

    all_plans: the local plans, before what several ranks have is dropped
    """
    if not validation.is_native(global_plan, metadata):
        raise_verdict(originals.validate_global_plan(global_plan, metadata))
        return
    saved = metadata.state_dict_metadata
    suspects = native.suspects(saved, len(global_plan) > 1)
    if not suspects:
        return
    if validation.WORDS_ARE_KNOWN:
        words = validation.summary(
            message
            for key in suspects
            for message in validation.messages_of(global_plan, key, saved[key], False)
        )
    else:
        words = validation.summary_of(validation.messages(global_plan, metadata, suspects))
    if words is None:
        return
    error = ValueError(words)
    try:
        whole = _report(all_plans, global_plan, metadata, suspects)
        if whole["tensors"]:
            logger.error("the save plan is not valid: %s", box_faults.text(whole))
            said = box_faults.text(whole, _MAX_TENSORS)
            error = ValueError(f"{words}\n{said[:_MAX_TEXT]}")
            error.report = box_faults.shortened(whole)  # type: ignore[attr-defined]
    except Exception:
        # What is wrong with a plan must reach the ranks, whatever becomes of its diagnosis.
        logger.exception("no diagnosis of a save plan that is not valid")
    raise error


def raise_verdict(verdict: Any) -> None:
    """Raises upstream's error for what a validation returned: messages, or True for valid."""
    if words := validation.summary_of(verdict):
        raise ValueError(words)


def _report(
    all_plans: list[SavePlan],
    global_plan: list[SavePlan],
    metadata: Metadata,
    suspects: list[str],
) -> dict[str, Any]:
    must_fill = len(global_plan) > 1
    saved: dict[str, Any] = metadata.state_dict_metadata
    boxes_of = {
        key: boxes for key in suspects if (boxes := validation.boxes_of(saved[key])) is not None
    }
    known = list(boxes_of)
    writers = native.writers_of([plan.items for plan in global_plan], known) or {}
    holders = native.holders_of([plan.items for plan in all_plans], known) or {}
    unknown = [key for key in known if not validation.is_untouched(saved[key].chunks)]
    if not writers:
        unknown = known
    of_items = _writers_by_box(global_plan, set(unknown)) if unknown else {}
    found = []
    for key, boxes in boxes_of.items():
        owners = _in_order(of_items[key], boxes) if key in of_items else writers[key]
        shape = tuple(saved[key].size)
        of_key = box_faults.Saved(key, shape, boxes, owners, holders.get(key, ()))
        if faults := box_faults.find_faults(of_key, must_fill):
            found.append(faults)
    return box_faults.report(found, len(saved), len(all_plans))


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
