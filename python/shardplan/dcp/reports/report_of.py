"""Where the report of a failed save or load is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def report_of(error: BaseException) -> dict[str, Any] | None:
    """What is wrong, as plain data, of an error that a save or a load raised.

    Args:
        error: a planner's own error, or the ``CheckpointException`` that ``dcp.save`` and
            ``dcp.load`` make of it, whose ``failures`` hold the error of each rank; or an error
            that was raised from one of them.

    Returns:
        The report of the lowest rank that has one; None if there is none.
    """
    for one in _errors(error, set()):
        report = getattr(one, "report", None)
        if isinstance(report, dict):
            return report
    return None


def _errors(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    if id(error) in seen:
        return
    seen.add(id(error))
    yield error
    failures = getattr(error, "failures", None)
    if isinstance(failures, dict):
        for rank in sorted(failures):
            failure = failures[rank]  # the error, and where it was raised
            if isinstance(failure, tuple) and failure and isinstance(failure[0], BaseException):
                yield from _errors(failure[0], seen)
    for one in (error.__cause__, error.__context__):
        if one is not None:
            yield from _errors(one, seen)
