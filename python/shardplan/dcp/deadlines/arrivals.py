"""The arrivals of the ranks of one process group, in the store of the group."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch.distributed as dist

R = TypeVar("R")

_ALL_ARRIVED = b"all"
# How long the store may take to answer once a deadline has passed, in seconds.
_GRACE = 5.0
# Between two looks at the store: a part of the time waited, and its bounds in seconds.
_PART = 1 / 20
_SHORTEST, _LONGEST = 0.001, 0.2


class StoreUnreachable(ConnectionError):
    """The store of a process group does not answer."""


class Arrivals:
    """Reports this rank's arrivals at points of the program, and waits for those of others.

    All ranks that wait at a point see the same verdict: either all expected ranks have arrived, or
    some are missing. A rank that arrives after the verdict sees it too.

    Args:
        store: the store of the process group. It is used from a thread of its own: a store can wait
            without end for the process that hosts it.
        rank: this rank in the group.
        prefix: for the names in the store, the same on all ranks of the group and no other's.
    """

    def __init__(self, store: dist.Store, rank: int, prefix: str) -> None:
        self._given_store = store
        self._store: dist.Store | None = None
        self._rank = rank
        self._prefix = prefix
        self._own: list[str] = []  # names that this rank has set and nobody reads any more, soon
        self._shared: list[str] = []  # likewise, names that all ranks share

    def missing(self, point: str, expected: Sequence[int], timeout: float) -> list[int]:
        """Waits until the expected ranks have arrived at a point.

        Args:
            point: the name of the point, the same on all ranks. A point is passed once.
            expected: the ranks to wait for. A rank that is not among them only waits.
            timeout: seconds to wait, from this call.

        Returns:
            The ranks that have not arrived in time, ascending; empty if all have.

        Raises:
            StoreUnreachable: the store has not answered in time, or has raised an error.
        """
        try:
            return _in_a_thread(lambda: self._missing(point, expected, timeout), timeout + _GRACE)
        except TimeoutError:
            # The thread still waits for the store. The next call has another connection.
            self._store = None
            raise StoreUnreachable(
                f"the store has not answered in {timeout + _GRACE:g} s"
            ) from None
        except RuntimeError as error:  # torch.distributed.DistError
            raise StoreUnreachable(str(error)) from error

    def _missing(self, point: str, expected: Sequence[int], timeout: float) -> list[int]:
        deadline = time.monotonic() + timeout
        if self._store is None:
            # A connection of its own, where the store can have one: others use the store meanwhile.
            clone = getattr(self._given_store, "clone", lambda: self._given_store)
            self._store = clone()
        store: dist.Store = self._store
        names = _Names(f"{self._prefix}/{point}")
        is_last = False
        if self._rank in expected:
            store.set(names.rank(self._rank), "")
            is_last = store.add(names.count, 1) >= len(expected)
        verdict = _verdict(store, names.verdict, _ALL_ARRIVED.decode()) if is_last else None
        start = time.monotonic()
        while verdict is None and time.monotonic() < deadline:
            if store.check([names.verdict]):
                verdict = store.get(names.verdict)
            else:
                waited = time.monotonic() - start
                time.sleep(min(max(waited * _PART, _SHORTEST), _LONGEST))
        if verdict is None:
            absent = [rank for rank in expected if not store.check([names.rank(rank)])]
            verdict = _verdict(store, names.verdict, " ".join(map(str, absent)))
        if verdict != _ALL_ARRIVED:
            # The names stay in the store, for the ranks that are late.
            return [int(rank) for rank in verdict.split()]
        self._delete_earlier(store, names, expected, is_last)
        return []

    def _delete_earlier(
        self, store: dist.Store, names: _Names, expected: Sequence[int], is_last: bool
    ) -> None:
        """Deletes the names of earlier points, once all ranks have left them."""
        if len(expected) > 1:
            for name in (*self._own, *(self._shared if is_last else ())):
                with contextlib.suppress(RuntimeError):  # A store may not delete.
                    store.delete_key(name)
            self._own.clear()
            self._shared.clear()
        if self._rank in expected:
            self._own.append(names.rank(self._rank))
        self._shared += (names.count, names.verdict)


class _Names:
    """The names of a point in the store."""

    def __init__(self, point: str) -> None:
        self._point = point
        self.count = f"{point}/count"
        self.verdict = f"{point}/verdict"

    def rank(self, rank: int) -> str:
        return f"{self._point}/{rank}"


def _verdict(store: dist.Store, name: str, proposed: str) -> bytes:
    """Sets the verdict, unless another rank has set it before. Returns the one that holds."""
    return bytes(store.compare_set(name, "", proposed))


def _in_a_thread(function: Callable[[], R], timeout: float) -> R:
    """Calls a function in a new thread, and raises TimeoutError if it does not return in time."""
    results: list[R] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, name="shardplan arrivals", daemon=True)
    thread.start()
    thread.join(timeout)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]
