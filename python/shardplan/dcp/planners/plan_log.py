"""Logs one INFO line per global plan: items, bytes per rank, and seconds per stage."""

from __future__ import annotations

import logging
import time
from typing import Any

from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

from ...diagnosis.units import bytes_text, seconds_text
from ..native import native

logger = logging.getLogger(__name__)


class Stages:
    """Measures the time of each stage of planning.

    Args:
        local: seconds that the local plan took; None if unknown.
    """

    def __init__(self, local: float | None = None) -> None:
        self.taken: list[tuple[str, float]] = [] if local is None else [("local plan", local)]
        self._since = time.perf_counter()

    def done(self, name: str) -> None:
        """Records the end of a stage."""
        now = time.perf_counter()
        self.taken.append((name, now - self._since))
        self._since = now

    def __str__(self) -> str:
        return ", ".join(f"{name} {seconds_text(seconds)}" for name, seconds in self.taken)


def saved(plans: list[SavePlan], stages: Stages) -> None:
    """Logs a global save plan."""
    if logger.isEnabledFor(logging.INFO):
        _log("save", native.written([plan.items for plan in plans]), stages)


def loaded(plans: list[LoadPlan], metadata: Any, stages: Stages) -> None:
    """Logs a global load plan."""
    if logger.isEnabledFor(logging.INFO):
        sizes = {
            key: saved.properties.dtype.itemsize
            for key, saved in metadata.state_dict_metadata.items()
            if hasattr(saved, "properties")
        }
        _log("load", native.requested([plan.items for plan in plans], sizes), stages)


def _log(what: str, loads: list[tuple[int, int]] | None, stages: Stages) -> None:
    if not loads:
        return
    items = sum(count for count, _ in loads)
    moved = [count for _, count in loads]
    logger.info(
        "%s plan: %s items of %s ranks; tensor bytes per rank: min %s, mean %s, max %s; %s",
        what,
        f"{items:,}",
        f"{len(loads):,}",
        bytes_text(min(moved)),
        bytes_text(sum(moved) / len(moved)),
        bytes_text(max(moved)),
        stages,
    )
