"""Twins of the collectives of a save or load (``utils._DistWrapper``), with a deadline.

``register(timeout=...)`` installs them. Each collective of a step ("plan", "write", "read") is
upstream's; before it, a rank waits for the ranks that the collective needs.
"""

from __future__ import annotations

import contextlib
import functools
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from ..locks import ForkSafeLock
from ..upstream import originals
from .arrivals import Arrivals, StoreUnreachable

_Wrapper = originals.DistWrapper

_timeout: float | None = None
_lock = ForkSafeLock()
_groups: weakref.WeakKeyDictionary[Any, _Group] = weakref.WeakKeyDictionary()
# How many groups of a name this process has had. A group can be made again, in the same store.
_incarnations: Counter[str] = Counter()


def set_timeout(seconds: float | None) -> None:
    """Sets for how long a rank waits for others; None: without end, as upstream does."""
    global _timeout
    _timeout = seconds


def timeout() -> float | None:
    """Returns the seconds for which a rank waits for others, or None."""
    return _timeout


class _Group:
    """What this process knows of a process group: its arrivals, and how many saves it has seen."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        name = group.group_name
        _incarnations[name] += 1
        store = dist.distributed_c10d._get_process_group_store(group)
        self.arrivals = Arrivals(store, group.rank(), f"shardplan/{_incarnations[name]}")
        self.wrappers = 0


class _Step:
    """A step of a save or load, on this rank."""

    def __init__(self, wrapper: Any, name: str) -> None:
        group = wrapper.group or dist.distributed_c10d._get_default_group()
        with _lock:
            if group not in _groups:
                _groups[group] = _Group(group)
            state = _groups[group]
            if not hasattr(wrapper, "_shardplan_steps"):
                state.wrappers += 1
                wrapper._shardplan_steps = [state.wrappers, 0]
            wrapper._shardplan_steps[1] += 1
        self._arrivals = state.arrivals
        self._point = "/".join(map(str, wrapper._shardplan_steps))
        self._name = name
        self._rank = wrapper.rank
        self._all = range(wrapper.get_world_size())
        self._coordinator = wrapper.coordinator_rank
        self._collectives = 0

    def wait_for_all(self) -> None:
        self._wait_for(self._all)

    def wait_for_coordinator(self) -> None:
        self._wait_for((self._coordinator,))

    def _wait_for(self, expected: Sequence[int]) -> None:
        seconds = _timeout
        if seconds is None:  # unregister() was called meanwhile.
            return
        self._collectives += 1
        point = f"{self._point}/{self._collectives}"
        try:
            missing = self._arrivals.missing(point, expected, seconds)
        except StoreUnreachable as error:
            unreachable = StoreUnreachable(
                f"rank {self._rank} cannot learn whether the other ranks have arrived at the step "
                f"{self._name!r}, because the store of the process group, which rank 0 or the "
                f"launcher hosts, cannot be reached: {error}"
            )
            raise _failure(self._name, {self._rank: unreachable}) from error
        if missing:
            arrived = len(expected) - len(missing)
            raise _failure(
                self._name,
                {
                    rank: TimeoutError(
                        f"rank {rank} has not arrived at the step {self._name!r} in {seconds:g} s, "
                        f"and {arrived} of {len(expected)} ranks have: it has ended, is stopped, "
                        "hangs, failed elsewhere, or has called register() without this timeout"
                    )
                    for rank in missing
                },
            )


def _failure(step: str, errors: dict[int, Exception]) -> CheckpointException:
    """Returns the exception by which upstream tells every rank what failed on some."""
    nowhere = traceback.StackSummary()
    return CheckpointException(step, {rank: (error, nowhere) for rank, error in errors.items()})


@contextlib.contextmanager
def _step(wrapper: Any, name: str) -> Iterator[_Step | None]:
    """The step in which a wrapper is, which its collectives find there."""
    outer = getattr(wrapper, "_shardplan_step", None)
    if not wrapper.use_dist or _timeout is None or outer is not None:
        yield outer
        return
    wrapper._shardplan_step = _Step(wrapper, name)
    try:
        yield wrapper._shardplan_step
    finally:
        wrapper._shardplan_step = None


def _in_step(original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a twin of a method whose first argument is the name of a step."""

    @functools.wraps(original)
    def twin(self: Any, step: str, *args: Any, **kwargs: Any) -> Any:
        with _step(self, step):
            return original(self, step, *args, **kwargs)

    return twin


def _after(wait: Callable[[_Step], None], original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a twin of a collective, which waits first for the ranks that it needs."""

    @functools.wraps(original)
    def twin(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _step(self, original.__name__) as step:
            if step is not None:
                wait(step)
            return original(self, *args, **kwargs)

    return twin


#: Upstream method -> its twin.
TWINS: dict[Callable[..., Any], Callable[..., Any]] = {
    **{
        method: _in_step(method)
        for method in (
            _Wrapper.reduce_scatter,
            _Wrapper.all_reduce,
            _Wrapper.all_gather,
            _Wrapper.broadcast,
        )
    },
    **{
        method: _after(_Step.wait_for_all, method)
        for method in (_Wrapper.gather_object, _Wrapper.all_gather_object, _Wrapper.barrier)
    },
    **{
        method: _after(_Step.wait_for_coordinator, method)
        for method in (_Wrapper.scatter_object, _Wrapper.broadcast_object)
    },
}
