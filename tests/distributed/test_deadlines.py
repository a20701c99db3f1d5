"""``register(timeout=...)``: ranks that are late, stopped or absent, on real process groups."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.tensor import Shard

import shardplan
from shardplan.dcp.upstream import originals

from .state_dicts import StateDict, mesh, numbers, spread
from .world import Worlds, end_background_process

TIMEOUT = 2.0
PATIENT = 60.0
LATE = 2
# What a busy machine may add to a deadline.
SLACK = 15.0

#: Of one rank: the ranks that the exception names, the texts, and the seconds until it was raised.
Raised = tuple[list[int], list[str], float]


def state() -> StateDict:
    return {"w": spread(numbers(7, 2), mesh(3), Shard(0)), "same": numbers(4), "n": 3}


def raised_by(action: Callable[[], Any]) -> Raised | None:
    start = time.monotonic()
    try:
        action()
    except dcp.api.CheckpointException as error:
        texts = [f"{type(found).__name__}: {found}" for found, _ in error.failures.values()]
        return sorted(error.failures), texts, time.monotonic() - start
    return None


def save(path: Path, **options: Any) -> None:
    dcp.save(state(), storage_writer=shardplan.FileSystemWriter(path, sync_files=False), **options)


def load(path: Path) -> None:
    target = state()
    target["same"].zero_()
    dcp.load(target, storage_reader=dcp.FileSystemReader(path))
    assert torch.equal(target["same"], numbers(4))


class SlowWriter(dcp.FileSystemWriter):
    """Sleeps on one rank, in one method."""

    def __init__(self, path: Path, method: str, rank: int) -> None:
        super().__init__(path, sync_files=False)
        if dist.get_rank() == rank:
            ready = getattr(self, method)

            def late(*args: Any, **kwargs: Any) -> Any:
                time.sleep(2 * TIMEOUT)
                return ready(*args, **kwargs)

            setattr(self, method, late)


def save_with_a_late_rank(base: Path, method: str, rank: int) -> tuple[Raised | None, int]:
    """Returns what a save raises, and how many entries the next load has."""
    dist.barrier()
    with shardplan.registered(timeout=TIMEOUT):
        late = raised_by(
            lambda: dcp.save(state(), storage_writer=SlowWriter(base / "late", method, rank))
        )
    # The late rank was told, and nobody waits in a collective: the group works on.
    with shardplan.registered(timeout=PATIENT):
        save(base / "next")
        load(base / "next")
    return late, len(dcp.FileSystemReader(base / "next").read_metadata().state_dict_metadata)


@pytest.mark.parametrize(
    ("method", "rank", "step"),
    [
        ("prepare_local_plan", LATE, "plan"),
        ("prepare_local_plan", 0, "plan"),
        ("prepare_global_plan", 0, "plan"),
        ("write_data", LATE, "write"),
        ("finish", 0, "write"),
    ],
)
def test_every_rank_names_the_late_one(
    method: str, rank: int, step: str, worlds: Worlds, tmp_path: Path
) -> None:
    for late, entries in worlds[3].run(save_with_a_late_rank, tmp_path, method, rank):
        assert entries == 3
        assert late is not None
        ranks, (text,), seconds = late
        assert ranks == [rank]
        assert text.startswith(f"TimeoutError: rank {rank} has not arrived at the step '{step}'")
        assert seconds < 2 * TIMEOUT + SLACK


def load_with_a_late_rank(base: Path) -> Raised | None:
    save(base)
    dist.barrier()
    with shardplan.registered(timeout=timedelta(seconds=TIMEOUT)):
        if dist.get_rank() == LATE:
            time.sleep(2 * TIMEOUT)
        late = raised_by(lambda: load(base))
    with shardplan.registered(timeout=PATIENT):
        load(base)
    return late


def test_a_load(worlds: Worlds, tmp_path: Path) -> None:
    for late in worlds[3].run(load_with_a_late_rank, tmp_path):
        assert late is not None
        assert late[0] == [LATE]
        assert "has not arrived at the step 'plan' in 2 s, and 2 of 3 ranks have" in late[1][0]


def save_while_one_is_stopped(base: Path) -> Raised | None:
    pids: list[Any] = [None] * 3
    dist.all_gather_object(pids, os.getpid())
    with shardplan.registered(timeout=TIMEOUT):
        if dist.get_rank() == LATE:
            os.kill(os.getpid(), signal.SIGSTOP)
        late = raised_by(lambda: save(base / "late"))
        if dist.get_rank() == 0:
            os.kill(pids[LATE], signal.SIGCONT)
    with shardplan.registered(timeout=PATIENT):
        save(base / "next")
    return late


def test_a_stopped_process(worlds: Worlds, tmp_path: Path) -> None:
    stopped = worlds[3].run(save_while_one_is_stopped, tmp_path)
    assert [late[0] for late in stopped] == [[LATE]] * 3
    assert not (tmp_path / "late" / ".metadata").exists()
    assert (tmp_path / "next" / ".metadata").exists()


def many_saves(base: Path) -> tuple[list[int], list[str]]:
    """Returns the numbers of names in the store after each save, and the files."""
    store = dist.distributed_c10d._get_process_group_store(dist.group.WORLD)
    names = []
    with shardplan.registered(timeout=PATIENT):
        for count in range(8):
            save(base / str(count))
            dist.barrier()
            names.append(store.num_keys())
            dist.barrier()
        load(base / "7")
    return names, sorted(path.name for path in (base / "7").iterdir())


def test_nothing_is_left_in_the_store(worlds: Worlds, tmp_path: Path) -> None:
    for names, files in worlds[3].run(many_saves, tmp_path):
        assert len(set(names[1:])) == 1
        assert files == [".metadata", "__0_0.distcp", "__1_0.distcp", "__2_0.distcp"]


def save_in_a_subgroup(base: Path) -> Raised | None:
    group = dist.new_group([1, 2])
    late = None
    dist.barrier()
    with shardplan.registered(timeout=TIMEOUT):
        if dist.get_rank() == 2:
            time.sleep(2 * TIMEOUT)
        if dist.get_rank() != 0:
            writer = shardplan.FileSystemWriter(base, sync_files=False)
            late = raised_by(lambda: dcp.save({"n": 1}, storage_writer=writer, process_group=group))
    return late


def test_a_subgroup_is_named_by_its_own_ranks(worlds: Worlds, tmp_path: Path) -> None:
    outside, *inside = worlds[3].run(save_in_a_subgroup, tmp_path)
    assert outside is None
    assert [late[0] for late in inside] == [[1], [1]]


def save_async(base: Path, kind: AsyncCheckpointerType) -> Raised | None:
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    with shardplan.registered(timeout=TIMEOUT):
        writer = SlowWriterInAnyProcess(base)
        done = dcp.async_save({"n": 1}, storage_writer=writer, async_checkpointer_type=kind)
        late = raised_by(lambda: done.result(timeout=60))
    end_background_process()
    return late


class SlowWriterInAnyProcess(dcp.FileSystemWriter):
    def prepare_local_plan(self, plan: Any) -> Any:
        if dist.get_rank() == LATE:
            time.sleep(2 * TIMEOUT)
        return super().prepare_local_plan(plan)


def test_async_save_in_a_thread(worlds: Worlds, tmp_path: Path) -> None:
    late = worlds[3].run(save_async, tmp_path, AsyncCheckpointerType.THREAD)
    assert [each[0] for each in late] == [[LATE]] * 3


def save_async_in_a_process(base: Path) -> str:
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    with shardplan.registered(timeout=TIMEOUT):
        done = dcp.async_save(
            {"n": 1},
            storage_writer=SlowWriterInAnyProcess(base),
            async_checkpointer_type=AsyncCheckpointerType.PROCESS,
        )
        try:
            done.result(timeout=60)
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
        finally:
            end_background_process()
    return "nothing"


def test_async_save_in_a_process(worlds: Worlds, tmp_path: Path) -> None:
    for text in worlds[3].run(save_async_in_a_process, tmp_path, timeout=120):
        assert f"rank {LATE} has not arrived" in text


def register_unevenly(base: Path) -> Raised | None:
    """One rank has no timeout. Its collective ends when its peers leave the group."""
    if dist.get_rank() == LATE:
        with shardplan.registered():
            return None
    with shardplan.registered(timeout=TIMEOUT):
        return raised_by(lambda: save(base))


def test_a_rank_that_does_not_save(worlds: Worlds, tmp_path: Path) -> None:
    late = worlds[3].run(register_unevenly, tmp_path)
    assert [each and each[0] for each in late] == [[LATE], [LATE], None]


def save_after_the_group_was_made_again(base: Path) -> list[Raised | None]:
    found = []
    for count in range(3):
        group = dist.new_group([0, 1, 2])
        if dist.get_rank() == LATE and count == 1:
            time.sleep(2 * TIMEOUT)
        writer = shardplan.FileSystemWriter(base / str(count), sync_files=False)
        with shardplan.registered(timeout=TIMEOUT if count == 1 else PATIENT):
            found.append(
                raised_by(
                    lambda writer=writer, group=group: dcp.save(  # type: ignore[misc]
                        state(), storage_writer=writer, process_group=group
                    )
                )
            )
        dist.destroy_process_group(group)
    return found


def test_groups_that_are_made_again(worlds: Worlds, tmp_path: Path) -> None:
    for first, late, last in worlds[3].run(save_after_the_group_was_made_again, tmp_path):
        assert first is None
        assert late is not None
        assert last is None


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), timedelta(0)])
def test_a_timeout_that_is_none(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout must be a positive number of seconds"):
        shardplan.register(timeout=timeout)
    with pytest.raises((TypeError, ValueError)):
        shardplan.register(timeout="soon")  # type: ignore[arg-type]
    assert not shardplan.dcp.registration.registry.is_registered()


def test_methods_are_restored() -> None:
    before = dict(vars(originals.DistWrapper))
    with shardplan.registered(timeout=1) as done:
        name = "torch.distributed.checkpoint.utils._DistWrapper.reduce_scatter"
        assert name in done.replaced
        assert originals.DistWrapper.reduce_scatter is not before["reduce_scatter"]
    assert dict(vars(originals.DistWrapper)) == before
    with shardplan.registered() as done:
        assert name not in done.replaced
        assert dict(vars(originals.DistWrapper)) == before


HOSTED_BY_RANK_0 = """
    import os, signal, sys, time
    import torch, torch.distributed as dist, torch.distributed.checkpoint as dcp
    import shardplan

    folder, rank, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=3
    )
    shardplan.register(timeout=1)
    dcp.save({"n": 1}, checkpoint_id=f"{folder}/whole")
    if rank == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    start = time.monotonic()
    try:
        dcp.save({"n": 1}, checkpoint_id=f"{folder}/late")
    except dcp.api.CheckpointException as error:
        ((rank, (found, _)),) = error.failures.items()
        print(rank, time.monotonic() - start, f"{type(found).__name__}: {found}", flush=True)
    os._exit(0)
"""


def test_the_process_that_hosts_the_store_is_stopped(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(HOSTED_BY_RANK_0))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, script, tmp_path, str(rank), str(port)],
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    try:
        for rank in (1, 2):
            output, _ = ranks[rank].communicate(timeout=100)
            named, seconds, text = output.split(" ", 2)
            assert int(named) == rank
            assert float(seconds) < TIMEOUT + 5 + SLACK
            assert text.startswith(f"StoreUnreachable: rank {rank} cannot learn whether the other")
            assert "the store has not answered in 6 s" in text
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    assert (tmp_path / "whole" / ".metadata").exists()
    assert not (tmp_path / "late" / ".metadata").exists()
