"""When upstream's writer resolves, writes, flushes and closes; and what callers can change then."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import filesystem

import shardplan
from parity.test_write_data import mixed
from shardplan.dcp import fallbacks

WRITERS = {"ours": shardplan.FileSystemWriter, "upstream": dcp.FileSystemWriter}


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    fallbacks.clear()
    yield
    fallbacks.clear()


def write(writer: dcp.FileSystemWriter, planner: Any, state_dict: dict[str, Any]) -> Any:
    """Plans a save, and writes its data."""
    planner.set_up_planner(state_dict, None, True)
    writer.set_up_storage_writer(True)
    plan = writer.prepare_local_plan(planner.create_local_plan())
    plans, _ = planner.create_global_plan([plan])
    plan = planner.finish_plan(writer.prepare_global_plan(plans)[0])
    return writer.write_data(plan, planner).wait()


def test_a_hook_that_reuses_its_memory(tmp_path: Path) -> None:
    class Reuses(dcp.DefaultSavePlanner):
        memory = torch.zeros(5)

        def transform_object(self, write_item: Any, object: Any) -> Any:
            return self.memory.copy_(object)

    files = []
    for name, writer in WRITERS.items():
        (tmp_path / name).mkdir()
        write(
            writer(tmp_path / name, sync_files=False),
            Reuses(),
            {f"x{at}": torch.full((5,), float(at)) for at in range(100)},
        )
        files.append((tmp_path / name / "__0_0.distcp").read_bytes())
    assert files[0] == files[1]
    assert not shardplan.fallbacks()


class Streams(filesystem.FileSystem):
    """A file system whose streams log what is called. They commit their bytes in ``close``."""

    def __init__(self, log: list[str], replace: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._log = log
        self._replace = replace

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
        yield _Stream(Path(path), self._log, self._replace)


class _Stream:
    def __init__(self, path: Path, log: list[str], replace: Callable[[], None]) -> None:
        self._path = path
        self._log = log
        self._replace = replace
        self._bytes = b""

    def write(self, data: Any) -> None:
        self._replace()
        self._log.append("write")
        self._bytes += bytes(data)

    def tell(self) -> int:
        return len(self._bytes)

    def flush(self) -> None:
        self._log.append("flush")

    def fileno(self) -> int:
        self._log.append("fileno")
        raise AttributeError

    def close(self) -> None:
        self._log.append("close")
        self._path.write_bytes(self._bytes)


@pytest.mark.parametrize("to_disk", [False, True])
def test_streams_are_flushed_and_closed(to_disk: bool, tmp_path: Path) -> None:
    logs: dict[str, list[str]] = {}
    for name, writer in WRITERS.items():
        (tmp_path / name).mkdir()
        used = writer(tmp_path / name, sync_files=to_disk)
        used.fs = Streams(logs.setdefault(name, []))
        write(used, dcp.DefaultSavePlanner(), mixed())
    files = [(tmp_path / name / "__0_0.distcp").read_bytes() for name in WRITERS]
    assert files[0] == files[1]
    for log in logs.values():
        after = log[len(log) - 1 - log[::-1].index("write") :]
        assert after[-1] == "close"
        assert "flush" in after
        assert ("fileno" in after) == to_disk
        if to_disk:
            assert after.index("flush") < after.index("fileno")


def test_an_exception_of_close_is_raised(tmp_path: Path) -> None:
    class Fails(Streams):
        @contextmanager
        def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
            with super().create_stream(path, mode) as stream:
                stream._path = tmp_path / "no" / "such"
                yield stream

    for writer in WRITERS.values():
        used = writer(tmp_path, sync_files=False)
        used.fs = Fails([])
        with pytest.raises(FileNotFoundError):
            write(used, dcp.DefaultSavePlanner(), mixed())


@pytest.mark.parametrize("elements", [1_000, 300_000])
def test_memory_that_a_tensor_gives_up_while_it_is_written(elements: int, tmp_path: Path) -> None:
    """As ``Parameter.data = ...`` does, in a training loop during a background save."""
    state_dict = {
        f"x{at}": torch.nn.Parameter(torch.full((elements,), float(at)), False) for at in range(40)
    }
    expected = {name: tensor.detach().clone() for name, tensor in state_dict.items()}

    def replace() -> None:
        for tensor in state_dict.values():
            tensor.data = torch.empty(0)

    used = shardplan.FileSystemWriter(tmp_path, sync_files=False)
    used.fs = Streams([], replace)
    write(used, dcp.DefaultSavePlanner(), state_dict)
    (tmp_path / "upstream").mkdir()
    write(
        dcp.FileSystemWriter(tmp_path / "upstream", sync_files=False),
        dcp.DefaultSavePlanner(),
        expected,
    )
    parts = [folder / "__0_0.distcp" for folder in (tmp_path, tmp_path / "upstream")]
    assert parts[0].read_bytes() == parts[1].read_bytes()


def test_a_file_that_an_opener_opens_to_append(tmp_path: Path) -> None:
    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_APPEND, 0o666)

    class Appends(filesystem.FileSystem):
        @contextmanager
        def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
            with open(path, mode, opener=opener) as stream:
                yield stream

    state_dict = {f"x{at}": torch.full((300_000,), float(at)) for at in range(20)}
    for name, writer in WRITERS.items():
        (tmp_path / name).mkdir()
        used = writer(tmp_path / name, sync_files=False)
        if name == "ours":
            used.fs = Appends()
            used.write_threads = 4
        write(used, dcp.DefaultSavePlanner(), state_dict)
    files = [(tmp_path / name / "__0_0.distcp").read_bytes() for name in WRITERS]
    assert files[0] == files[1]


def test_a_method_of_an_instance(tmp_path: Path) -> None:
    used = shardplan.FileSystemWriter(tmp_path)
    used._write_data = lambda planner, file_queue: (_ for _ in ()).throw(  # type: ignore[method-assign]
        RuntimeError("mine")
    )
    with pytest.raises(RuntimeError, match="mine"):
        write(used, dcp.DefaultSavePlanner(), mixed())


class Ends:
    """A stream that keeps the first and the last bytes of what is written to it."""

    def __init__(self) -> None:
        self.first = self.last = b""
        self.size = 0

    def write(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        self.size += len(view)
        self.first += bytes(view[: max(0, 4096 - len(self.first))])
        self.last = (self.last + bytes(view[-4096:]))[-4096:]

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("size", [2**32 - 2, 2**32 - 1, 2**32, 2**32 + 1])
def test_tensors_around_four_gibibytes(size: int, tmp_path: Path) -> None:
    """The zip format has other fields from there on. The zeros take no memory."""
    streams: dict[str, Ends] = {}

    class Whole(filesystem.FileSystem):
        @contextmanager
        def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
            yield streams[Path(path).parent.name]

    tensor = torch.zeros(size, dtype=torch.uint8)
    for name, writer in WRITERS.items():
        streams[name] = Ends()
        used = writer(tmp_path / name, sync_files=False)
        used.fs = Whole()
        write(used, dcp.DefaultSavePlanner(), {"x": tensor, "y": torch.ones(3)})
    ours, upstream = streams["ours"], streams["upstream"]
    assert ours.size == upstream.size
    assert ours.first == upstream.first
    assert ours.last == upstream.last
    assert not shardplan.fallbacks()


def test_the_last_save_of_a_process(tmp_path: Path) -> None:
    """A background save goes on while Python waits for its threads to end."""
    script = """
        import sys, torch, torch.distributed as dist, torch.distributed.checkpoint as dcp
        import shardplan

        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        state_dict = {f"x{at}": torch.full((50,), float(at)) for at in range(2000)}
        writer = shardplan.FileSystemWriter(f"{sys.argv[1]}/saved", thread_count=3)
        dcp.async_save(state_dict, storage_writer=writer, planner=shardplan.DefaultSavePlanner())
    """
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), str(tmp_path)],
        check=True,
        timeout=120,
        env=environment,
    )
    loaded = {f"x{at}": torch.zeros(50) for at in range(2000)}
    dcp.load(loaded, checkpoint_id=tmp_path / "saved", no_dist=True)
    assert all(bool((loaded[f"x{at}"] == at).all()) for at in range(2000))


def test_calls_of_several_threads() -> None:
    from shardplan.dcp.storage.file_writing import run_all

    seen: list[int] = []
    run_all([functools.partial(seen.append, at) for at in range(50)], 4, lambda: None)
    assert sorted(seen) == list(range(50))
    run_all([], 3, lambda: None)


def test_the_first_failure_ends_the_calls_of_all_threads() -> None:
    from shardplan.dcp.storage.file_writing import run_all

    stopped = threading.Event()
    began: list[int] = []
    errors = [RuntimeError("first"), RuntimeError("because the first has stopped it")]

    def fails() -> None:
        raise errors[0]

    def waits() -> None:
        assert stopped.wait(10)
        raise errors[1]

    calls = [waits, fails, *(functools.partial(began.append, at) for at in range(100))]
    with pytest.raises(RuntimeError) as raised:
        run_all(calls, 2, stopped.set)
    assert raised.value is errors[0]
    assert stopped.is_set()
    assert len(began) < 100
    assert not [each for each in threading.enumerate() if each.name == "shardplan write"]
