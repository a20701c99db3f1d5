"""Signals that arrive while native code works."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Interrupt(Exception):
    """Raised by the handler of the signal."""


@contextmanager
def interrupted(after: float, within: float) -> Iterator[None]:
    """Sends a signal, which must end the body soon and leave no thread.

    Args:
        after: seconds until the signal.
        within: seconds for which the body may run.
    """

    def interrupt(*_: object) -> None:
        raise Interrupt

    before = _threads()
    # An exception that is raised in a callback of the collector (hypothesis has one) is lost.
    gc.disable()
    old = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after)
    began = time.monotonic()
    try:
        with pytest.raises(Interrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        gc.enable()
    assert time.monotonic() - began < within
    # The kernel removes a thread a little after Python has joined it.
    while _threads() != before and time.monotonic() - began < within:
        time.sleep(0.01)
    assert _threads() == before


def _threads() -> tuple[int, int]:
    return threading.active_count(), len(os.listdir("/proc/self/task"))
