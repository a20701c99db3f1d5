"""Counts fallbacks from native code to upstream's, by reason, and logs each reason once.

A fallback gives the same result, but it is slower.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from .locks import ForkSafeLock

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("shardplan.fallbacks")

_lock = ForkSafeLock()
_counts: Counter[str] = Counter()
_inside = threading.local()
_observer: Callable[[str, int], None] | None = None


def fallbacks() -> dict[str, int]:
    """Returns how often this process fell back to upstream's code, by reason.

    Returns:
        A new dict of reason -> number of plans, files or entries; empty if nothing fell back.
    """
    with _lock:
        return dict(_counts)


def count_operation(reason: str) -> None:
    """Counts a plan or file that upstream's code handles. Logs a new reason as a WARNING."""
    _count(reason, logging.WARNING)


def count_entries(reason: str, count: int = 1) -> None:
    """Counts entries of a plan that upstream's code handles. Logs a new reason at INFO."""
    _count(reason, logging.INFO, count)


def observe(observer: Callable[[str, int], None] | None) -> None:
    """Sets a function that is called with (reason, count) at each fallback; None for none."""
    global _observer
    _observer = observer


def upstream(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls an upstream function. Twins that it calls in turn count no fallbacks."""
    _inside.depth = getattr(_inside, "depth", 0) + 1
    try:
        return function(*args, **kwargs)
    finally:
        _inside.depth -= 1


def or_upstream(
    native: R | None, reason: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Returns the native result, or that of the upstream function if the native result is None.

    A call of the upstream function counts as one entry under ``reason``, unless it raises.
    """
    if native is not None:
        return native
    answer = upstream(function, *args, **kwargs)
    count_entries(reason)
    return answer


def clear() -> None:
    """Resets all counts. Every reason is logged again."""
    with _lock:
        _counts.clear()


def _count(reason: str, level: int, count: int = 1) -> None:
    if getattr(_inside, "depth", 0) > 0:
        return
    with _lock:
        is_new = reason not in _counts
        _counts[reason] += count
    if _observer is not None:
        _observer(reason, count)
    if is_new:
        logger.log(level, "fallback to upstream's code: %s", reason)


def kind_of(obj: object) -> str:
    """Describes the class and layout of a state dict entry, for a reason."""
    cls = type(obj)
    name = f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
    layout = str(getattr(obj, "layout", "torch.strided"))
    return name if layout == "torch.strided" else f"{name} of layout {layout}"
