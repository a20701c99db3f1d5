"""Locks for a process that may fork."""

from __future__ import annotations

import os
import threading


class ForkSafeLock:
    """A reentrant lock, as a context manager. It is free in a forked child.

    The thread that held it when another one forked does not exist in the child, so that the child
    would wait for it without end.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._renew)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _renew(self) -> None:
        # It stays with the thread that forked, if that holds it.
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()
