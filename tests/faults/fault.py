"""What is done to one rank of a save or load, and where."""

from __future__ import annotations

import dataclasses
import errno
import random

SIZE = 4
OPERATIONS = ("save", "overwrite", "load")
ACTIONS = ("kill", "stop", "slow", "fail", "vanish", "crawl", "second save")
#: Nothing is wrong with the rank, so the save or load must return.
SLOW_ACTIONS = ("slow", "crawl")
MOMENTS = ("before", "in", "after")
#: The parts of a step: what each rank does, what the coordinator does, and the end of the step.
PARTS = ("local", "global", "end")
FILE_CALL = "file call"
ERRORS = (errno.ENOSPC, errno.EIO, errno.ENOENT, errno.EDQUOT)


def steps(operation: str) -> tuple[str, str]:
    """The steps of a save or load, as DCP names them."""
    return ("plan", "read") if operation == "load" else ("plan", "write")


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        operation: a save into an empty directory, one over a checkpoint, or a load.
        rank: the rank that has it.
        action: the process is killed, is stopped, sleeps, fails, loses its directory, has a slow
            disk from there on, or waits there until other ranks have saved into its directory.
        place: a step and a part of it, or ``FILE_CALL``.
        moment: before it, in it (a write is half done), or after it.
        fraction: which of the rank's file calls, as a part of their number.
        error: the errno of a failure.
    """

    operation: str
    rank: int
    action: str
    place: str
    moment: str
    fraction: float
    error: int

    def __str__(self) -> str:
        what = errno.errorcode[self.error] if self.action == "fail" else self.action
        where = f"{self.place} {self.fraction:.3f}" if self.place == FILE_CALL else self.place
        return f"{self.operation}: rank {self.rank}: {what} {self.moment} {where}"


def draw(random_numbers: random.Random) -> Fault:
    """Draws a fault. Half of them are at calls for files."""
    operation = random_numbers.choice(OPERATIONS)
    rank = random_numbers.randrange(SIZE)
    action = random_numbers.choice(ACTIONS)
    place, moments = FILE_CALL, MOMENTS
    if action == "second save" and operation == "load":
        operation = "overwrite"
    if action not in ("vanish", "crawl") and random_numbers.random() < 0.5:
        step, part = random_numbers.choice(steps(operation)), random_numbers.choice(PARTS)
        place, moments = f"{step} {part}", ("before", "after")
        if part == "global":
            rank = 0
            if step == "read":  # Reading has no global part.
                place = "plan global"
        if part == "end":
            moments = ("after",)
    return Fault(
        operation=operation,
        rank=rank,
        action=action,
        place=place,
        moment=random_numbers.choice(moments),
        fraction=random_numbers.random(),
        error=random_numbers.choice(ERRORS),
    )
