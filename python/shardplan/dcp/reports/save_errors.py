"""The error of an invalid global plan: upstream's message, then the diagnosis."""

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

# Limits of the diagnosis in the error message, which is sent to every rank.
_MAX_TENSORS = 5
_MAX_TEXT = 8_000


def raise_if_invalid(
    all_plans: list[SavePlan], global_plan: list[SavePlan], metadata: Metadata
) -> None:
    """Validates a global plan; raises upstream's error, with a diagnosis, if it is not valid.

    Args:
        all_plans: the local plan of each rank, before deduplication.
        global_plan: the final plan of each rank.
        metadata: the metadata of the global plan.

    Raises:
        ValueError: the plan is not valid. The message is upstream's, followed by the diagnosis of
            the worst tensors. The attribute ``report`` has the diagnosis as plain data. The full
            diagnosis is logged.
    """
    if not validation.is_native(global_plan, metadata):
        raise_verdict(originals.validate_global_plan(global_plan, metadata))
        return
    saved = metadata.state_dict_metadata
    suspects = native.suspects(saved, len(global_plan) > 1)
    if not suspects:
        return
    if validation.messages_are_known():
        message = validation.summary(
            fault
            for key in suspects
            for fault in validation.messages_of(global_plan, key, saved[key], False)
        )
    else:
        message = validation.summary_of(validation.messages(global_plan, metadata, suspects))
    if message is None:
        return
    error = ValueError(message)
    try:
        report = _report(all_plans, global_plan, metadata, suspects)
        if report["tensors"]:
            logger.error("the save plan is not valid: %s", box_faults.text(report))
            diagnosis = box_faults.text(report, _MAX_TENSORS)
            error = ValueError(f"{message}\n{diagnosis[:_MAX_TEXT]}")
            error.report = box_faults.shortened(report)  # type: ignore[attr-defined]
    except Exception:
        # The error itself must reach all ranks even if the diagnosis fails.
        logger.exception("the diagnosis of an invalid save plan could not be created")
    raise error


def raise_verdict(verdict: Any) -> None:
    """Raises upstream's error for the result of a validation, if the plan is not valid.

    Args:
        verdict: what the validation returned: a list of messages, or a bool that is true if valid.

    Raises:
        ValueError: the plan is not valid.
    """
    if message := validation.summary_of(verdict):
        raise ValueError(message)


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
    """Returns, per tensor and box, the ranks that write the box."""
    found: dict[str, _ByBox] = {key: {} for key in keys}
    for rank, plan in enumerate(global_plan):
        for item in plan.items:
            if item.index.fqn in keys and item.tensor_data is not None:
                chunk = item.tensor_data.chunk
                box = tuple(chunk.offsets), tuple(chunk.sizes)
                found[item.index.fqn].setdefault(box, []).append(rank)
    return found


def _in_order(ranks: _ByBox, boxes: _core.Boxes) -> list[int | None]:
    """Returns the writer of each box; None if it is unknown."""
    owners: list[int | None] = []
    for at in range(len(boxes)):
        offsets, sizes = _core.box(boxes, at)
        of_box = ranks.get((tuple(offsets), tuple(sizes)), [])
        owners.append(of_box.pop(0) if of_box else None)
    return owners
