"""Finds the report of a failed save or load in its exception."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def report_of(error: BaseException) -> dict[str, Any] | None:
    """Returns the report of a failed save or load as plain data.

    Args:
        error: an error raised by a planner, a ``CheckpointException`` raised by ``dcp.save`` or
            ``dcp.load`` (its ``failures`` hold the error of each rank), or an error caused by one
            of these.

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
            failure = failures[rank]  # (error, traceback)
            if isinstance(failure, tuple) and failure and isinstance(failure[0], BaseException):
                yield from _errors(failure[0], seen)
    for one in (error.__cause__, error.__context__):
        if one is not None:
            yield from _errors(one, seen)
