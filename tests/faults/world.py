"""Worlds of forked ranks, several at once, and what became of each."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from . import checkpoint, ranks
from .fault import SIZE, SLOW_ACTIONS, Fault
from .ranks import Folders

#: Seconds after which a rank is taken to hang.
PATIENCE = 25.0
_POLL = 0.01


@dataclasses.dataclass
class RankEnd:
    """How a rank ended: ``returned``, ``raised``, ``killed``, ``stopped`` or ``hangs``."""

    how: str
    note: dict[str, Any]


@dataclasses.dataclass
class Outcome:
    """What became of a world.

    Attributes:
        ranks: the end of each rank.
        contents: what the directory holds (``checkpoint.contents``).
        fired: whether the fault happened.
        is_unchanged: whether the files are those from before.
        files: the names of the files.
        second: how the ranks of the second save ended; empty without one.
    """

    ranks: list[RankEnd]
    contents: str
    fired: bool
    is_unchanged: bool
    files: list[str]
    second: list[RankEnd] = dataclasses.field(default_factory=list)


class _Ranks:
    """Forked ranks of one process group."""

    def __init__(self, folders: Folders, run: Callable[[int], NoReturn]) -> None:
        self._folders = folders
        self._start = time.monotonic()
        self._ended: dict[int, str] = {}
        self._pids = {rank: _fork(functools.partial(run, rank)) for rank in range(SIZE)}

    def have_ended(self) -> bool:
        """Looks at the ranks. A rank that takes too long is killed."""
        for rank, pid in self._pids.items():
            if rank in self._ended and self._ended[rank] != "stopped":
                continue
            found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if found and os.WIFSTOPPED(status):
                self._ended[rank] = "stopped"
            elif found:
                self._ended[rank] = "killed" if os.WIFSIGNALED(status) else f"exit {status}"
        if len(self._ended) < SIZE and time.monotonic() - self._start > PATIENCE:
            for rank in set(self._pids) - set(self._ended):
                self._end(rank)
                self._ended[rank] = "hangs"
        return len(self._ended) == SIZE

    def _end(self, rank: int) -> None:
        os.kill(self._pids[rank], signal.SIGKILL)
        os.waitpid(self._pids[rank], 0)

    def close(self) -> list[RankEnd]:
        """Ends the stopped ranks, and returns how each has ended."""
        for rank, how in self._ended.items():
            if how == "stopped":
                self._end(rank)
        return [self._end_of(rank) for rank in range(SIZE)]

    def _end_of(self, rank: int) -> RankEnd:
        how, note = self._ended[rank], self._folders.note(rank)
        if not note.exists():
            return RankEnd(
                how, {"log": self._folders.log(rank).read_text(errors="replace")[-2000:]}
            )
        found = json.loads(note.read_text())
        return RankEnd("raised" if found["raised"] else "returned", found)

    def kill(self) -> None:
        for rank in set(self._pids) - {r for r, how in self._ended.items() if how != "stopped"}:
            self._end(rank)


class World:
    """One save or load on ``SIZE`` ranks."""

    def __init__(
        self,
        operation: str,
        variant: str,
        fault: Fault | None = None,
        call: int = -1,
        template: Path | None = None,
        value: int = checkpoint.NEW,
    ) -> None:
        self._folders = Folders(Path(tempfile.mkdtemp(prefix="shardplan-faults-")))
        self.checkpoint = self._folders.checkpoint
        self._folders.notes.mkdir()
        self._folders.watched.mkdir()
        if template is not None:
            shutil.copytree(template, self._folders.checkpoint)
        self._before = checkpoint.fingerprint(self._folders.watched)
        self._variant = variant
        is_patient = fault is not None and fault.action in (*SLOW_ACTIONS, "second save")
        self._deadline = checkpoint.PATIENT_DEADLINE if is_patient else checkpoint.DEADLINE

        def run(rank: int) -> NoReturn:
            has_fault = fault is not None and rank == fault.rank
            ranks.run(
                self._folders,
                operation,
                variant,
                rank,
                fault if has_fault else None,
                call,
                value,
                self._deadline,
            )

        self._ranks = _Ranks(self._folders, run)
        self._second: _Ranks | None = None

    def has_ended(self) -> bool:
        """Looks at the ranks, and starts a second save if a rank has asked for it."""
        if self._second is None and self._folders.second_asked.exists():
            self._second = self._second_save()
        if self._second is not None and self._second.have_ended():
            self._folders.second_done.touch()
        return self._ranks.have_ended() and (self._second is None or self._second.have_ended())

    def _second_save(self) -> _Ranks:
        folders = Folders(self._folders.base, "second")
        folders.notes.mkdir()

        def run(rank: int) -> NoReturn:
            value = checkpoint.SECOND
            ranks.run(folders, "save", self._variant, rank, None, -1, value, self._deadline)

        return _Ranks(folders, run)

    def close(self) -> Outcome:
        """Ends the stopped ranks, and looks at what the directory holds."""
        ends = self._ranks.close()
        folder = self._folders.watched
        vanished = folder.with_name(f"{folder.name}.gone")
        # A save makes a directory that has vanished again, if that happens early.
        if vanished.exists() and not (folder / "checkpoint" / ".metadata").exists():
            folder = vanished
        after = checkpoint.fingerprint(folder)
        outcome = Outcome(
            ranks=ends,
            contents=_in_a_process(lambda: checkpoint.contents(folder / "checkpoint")),
            fired=any(end.note.get("fired") for end in ends)
            or any(end.how in ("killed", "stopped") for end in ends)
            or self._folders.notes.joinpath("fired").exists(),
            is_unchanged=after == self._before,
            files=sorted(after),
            second=self._second.close() if self._second is not None else [],
        )
        shutil.rmtree(self._folders.base)
        return outcome

    def kill(self) -> None:
        self._ranks.kill()
        if self._second is not None:
            self._second.kill()
        shutil.rmtree(self._folders.base, ignore_errors=True)


def _fork(function: Callable[[], Any]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(1)
    return pid


def _in_a_process(function: Callable[[], str]) -> str:
    """Returns the text that a function returns in a process of its own."""
    reading, writing = os.pipe()

    def send() -> NoReturn:
        os.write(writing, function().encode())
        os._exit(0)

    pid = _fork(send)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return text if status == 0 else f"a process that loads it ends with status {status}"


def wait_for(world: World) -> None:
    while not world.has_ended():
        time.sleep(_POLL)


def run_worlds(
    wanted: Iterable[tuple[Any, Callable[[], World]]], at_once: int
) -> Iterator[tuple[Any, Outcome]]:
    """Runs worlds, ``at_once`` at a time, and yields each one's key and outcome as it ends."""
    waiting = iter(wanted)
    running: list[tuple[Any, World]] = []
    try:
        while True:
            while len(running) < at_once and (entry := next(waiting, None)) is not None:
                running.append((entry[0], entry[1]()))
            if not running:
                return
            for entry in [entry for entry in running if entry[1].has_ended()]:
                running.remove(entry)
                yield entry[0], entry[1].close()
            time.sleep(_POLL)
    finally:
        for _, world in running:
            world.kill()
