"""Counts what native code hands to upstream's, by reason, and logs each reason once.

A fallback is correct, only slower; who uses shardplan for its speed needs to hear of it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("shardplan.fallbacks")

_lock = threading.Lock()
_counts: Counter[str] = Counter()
_inside = threading.local()
_observer: Callable[[str, int], None] | None = None


def fallbacks() -> dict[str, int]:
    """How often upstream's code did what native code usually does in this process, by reason.

    Returns:
        A new dict: reason -> number of plans, files or entries; empty if nothing fell back.
    """
    with _lock:
        return dict(_counts)


def whole(reason: str) -> None:
    """Counts a plan or a file that upstream's code handles. Logs a WARNING at the first one."""
    _count(reason, logging.WARNING)


def entry(reason: str, count: int = 1) -> None:
    """Counts single entries of a plan. Logs at INFO, at the first one of a reason."""
    _count(reason, logging.INFO, count)


def observe(observer: Callable[[str, int], None] | None) -> None:
    """Has every count, of a reason, passed to this function too."""
    global _observer
    _observer = observer


def upstream(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls upstream's function. The functions of ours that it reaches count no fallbacks."""
    _inside.depth = getattr(_inside, "depth", 0) + 1
    try:
        return function(*args, **kwargs)
    finally:
        _inside.depth -= 1


def or_upstream(
    native: R | None, reason: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """The native answer; where it is None, upstream's, which counts as one entry.

    An error of upstream's function counts nothing.
    """
    if native is not None:
        return native
    answer = upstream(function, *args, **kwargs)
    entry(reason)
    return answer


def clear() -> None:
    """Forgets all counts; every reason is logged again."""
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
        logger.log(level, "upstream's code is used instead of shardplan's: %s", reason)


def kind_of(obj: object) -> str:
    """What an entry of a state dict is, in the words of a reason."""
    cls = type(obj)
    name = f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
    layout = str(getattr(obj, "layout", "torch.strided"))
    return name if layout == "torch.strided" else f"{name} of layout {layout}"
