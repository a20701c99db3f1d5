"""Files that are written natively, against upstream's: every byte, every result and every error."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.utils._python_dispatch import TorchDispatchMode

import shardplan
from benchmarks.workloads import world
from parity.extensions import Inverted
from parity.test_read_data import DTYPES, random_tensor
from parity.worlds import sharded_tensor_of
from shardplan.dcp import fallbacks
from shardplan.dcp.lazy.items import LazyList
from shardplan.dcp.storage import tensor_writing

StateDict = dict[str, Any]
NOT_PLAIN = "write data: the tensor is not a plain one on CPU or CUDA"


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    fallbacks.clear()
    yield
    fallbacks.clear()


class Saved:
    """What a writer made of a state dict: files and results, or an exception."""

    def __init__(
        self,
        path: Path,
        writer: type[dcp.FileSystemWriter],
        planner: SavePlanner,
        state_dict: StateDict,
        options: dict[str, Any],
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self.results: list[Any] = []
        self.error: BaseException | None = None
        used = writer(path, **{"sync_files": False, **options})
        try:
            planner.set_up_planner(state_dict, None, True)
            used.set_up_storage_writer(True)
            plan = used.prepare_local_plan(planner.create_local_plan())
            plans, _ = planner.create_global_plan([plan])
            plan = planner.finish_plan(used.prepare_global_plan(plans)[0])
            between()
            self.results = used.write_data(plan, planner).wait()
        except Exception as error:
            self.error = error
        self.files = {file.name: file.read_bytes() for file in path.iterdir()}

    def outcome(self) -> Any:
        if self.error is not None:
            return type(self.error), str(self.error)
        # Upstream's threads end in any order.
        results = {result.index: result for result in self.results}
        return self.files, results, {index: index.index for index in results}


def both(
    path: Path,
    make: Callable[[], StateDict],
    planners: tuple[type[SavePlanner], type[SavePlanner]] = (
        shardplan.DefaultSavePlanner,
        dcp.DefaultSavePlanner,
    ),
    **options: Any,
) -> tuple[Saved, Saved]:
    saves = []
    for name, writer, planner in (
        ("ours", shardplan.FileSystemWriter, planners[0]),
        ("upstream", dcp.FileSystemWriter, planners[1]),
    ):
        (path / name).mkdir()
        saves.append(Saved(path / name, writer, planner(), make(), options))
    return saves[0], saves[1]


def check(path: Path, make: Callable[[], StateDict], **options: Any) -> Saved:
    ours, upstream = both(path, make, **options)
    assert ours.outcome() == upstream.outcome()
    return ours


SHAPES = {
    "scalar": (),
    "one": (1,),
    "vector": (7,),
    "matrix": (5, 9),
    "empty": (0, 3),
    "bytes": (300,),
    "large": (300, 500),
    "deep": (2, 1, 3, 2, 1, 2),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_byte_for_byte(dtype: torch.dtype, tmp_path: Path) -> None:
    def make() -> StateDict:
        return {name: random_tensor(shape, dtype) for name, shape in SHAPES.items()}

    ours = check(tmp_path, make)
    if "float4" not in str(dtype):
        assert not shardplan.fallbacks()
        assert type(ours.results) is LazyList


def layouts() -> dict[str, Callable[[], torch.Tensor]]:
    def base() -> torch.Tensor:
        return torch.arange(360, dtype=torch.float32).view(12, 30)

    return {
        "contiguous": base,
        "transposed": lambda: base().t(),
        "rows of a larger tensor": lambda: base()[3:7],
        "the beginning of a larger tensor": lambda: base()[:1],
        "columns of a larger tensor": lambda: base()[:, 3:9],
        "every other element": lambda: base()[::2, ::3],
        "transposed part": lambda: base()[2:5].t(),
        "expanded": lambda: base()[:1].expand(5, 30),
        "expanded scalar": lambda: torch.tensor(3.0).expand(4, 2),
        "permuted": lambda: base().view(3, 4, 30).permute(2, 0, 1),
        "permuted part": lambda: base().view(3, 4, 30).permute(2, 0, 1)[3:5],
        "channels last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "overlapping": lambda: base().flatten().as_strided((5, 4), (2, 1), 7),
        "overlapping, of its own size": lambda: torch.arange(4.0).as_strided((4,), (0,), 2),
        "a dim of one with another stride": lambda: base()[2:3, ::2],
        "strides of dims of one": lambda: torch.arange(6.0).as_strided((1, 6), (77, 1)),
        "empty part": lambda: base()[4:4],
        "empty part of columns": lambda: base()[:, 4:4],
        "empty and transposed": lambda: torch.empty(0, 3).t(),
        "parameter": lambda: torch.nn.Parameter(base()),
        "requires grad": lambda: base().requires_grad_(),
        "not a leaf": lambda: base().requires_grad_() * 2,
        "large part": lambda: torch.randn(1 << 19)[1000:],
        "large, every other element": lambda: torch.randn(1 << 19)[::2],
        "large and transposed": lambda: torch.randn(700, 800).t(),
        "inference": _inference,
    }


def _inference() -> torch.Tensor:
    with torch.inference_mode():
        return torch.arange(12.0).view(3, 4)[1:]


@pytest.mark.parametrize("layout", layouts())
def test_every_layout(layout: str, tmp_path: Path) -> None:
    tensor = layouts()[layout]()
    check(tmp_path, lambda: {"x": tensor, "y": torch.ones(3)})
    assert not shardplan.fallbacks()


class Subclass(torch.Tensor):
    pass


OTHERS: dict[str, Callable[[], torch.Tensor]] = {
    "conjugated": lambda: torch.randn(3, dtype=torch.complex64).conj(),
    "negated": lambda: torch.randn(3, dtype=torch.complex64).conj().imag,
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(6), 0.1, 0, torch.qint8),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "of a subclass": lambda: torch.ones(3).as_subclass(Subclass),
    "meta": lambda: torch.ones(3, device="meta"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OTHERS)
def test_other_tensors_are_written_by_upstream(kind: str, tmp_path: Path) -> None:
    odd = OTHERS[kind]()

    def make() -> StateDict:
        return {"a": torch.ones(5), "odd": odd, "z": torch.ones(700), "odd too": odd}

    ours, upstream = both(tmp_path, make)
    assert ours.outcome() == upstream.outcome()
    assert shardplan.fallbacks()


def mixed() -> StateDict:
    generator = torch.Generator().manual_seed(1)
    tensors = {
        f"layer.{at}.weight": torch.randn(3 + at * 97 % 1000, 7, generator=generator)
        for at in range(80)
    }
    return {
        "step": 5,
        **tensors,
        "names": ["a", "b"],
        "half": torch.ones(9).half(),
        "large": torch.randn(300_000, generator=generator),
        "none": None,
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sync_files": True},
        {"thread_count": 2},
        {"thread_count": 7},
        {"thread_count": 200},
        {"single_file_per_rank": False},
        {"single_file_per_rank": False, "thread_count": 3},
        {"per_thread_copy_ahead": 0},
    ],
    ids=str,
)
def test_options(options: dict[str, Any], tmp_path: Path) -> None:
    check(tmp_path, mixed, **options)
    assert not shardplan.fallbacks()


def test_order_by_size_where_upstream_copies_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream does so where CUDA is available, even for tensors on the CPU."""

    class Loader(tensor_writing.filesystem._SerialCpuLoader):
        def start_loading(self) -> None:
            self.items.sort(key=lambda item: item[0])

    monkeypatch.setattr(tensor_writing, "upstream_overlaps", lambda writer: True)
    (tmp_path / "ours").mkdir()
    ours = Saved(
        tmp_path / "ours",
        shardplan.FileSystemWriter,
        shardplan.DefaultSavePlanner(),
        mixed(),
        {},
    )
    assert not shardplan.fallbacks()
    monkeypatch.setattr(tensor_writing.filesystem, "_SerialCpuLoader", Loader)
    (tmp_path / "upstream").mkdir()
    upstream = Saved(
        tmp_path / "upstream", dcp.FileSystemWriter, dcp.DefaultSavePlanner(), mixed(), {}
    )
    assert ours.outcome() == upstream.outcome()


@pytest.mark.parametrize("thread_count", [0, -1, None])
def test_a_thread_count_that_is_none(thread_count: Any, tmp_path: Path) -> None:
    ours, upstream = both(tmp_path, mixed, thread_count=thread_count)
    assert ours.outcome() == upstream.outcome()
    assert shardplan.fallbacks() == {"write data: thread_count is not a positive number": 1}


def test_another_default_device(tmp_path: Path) -> None:
    tensors = mixed()
    tensor_writing._parts.cache_clear()
    with torch.device("meta"):
        check(tmp_path, lambda: tensors)
    assert not shardplan.fallbacks()


def test_no_items(tmp_path: Path) -> None:
    for at, options in enumerate([{}, {"thread_count": 3}, {"single_file_per_rank": False}]):
        (tmp_path / str(at)).mkdir()
        check(tmp_path / str(at), dict, **options)


@pytest.mark.parametrize("alignment", [1, 64, 4096])
@pytest.mark.parametrize("checksums", [True, False])
def test_options_of_torch_save(alignment: int, checksums: bool, tmp_path: Path) -> None:
    config: Any = torch.utils.serialization.config.save
    before = config.storage_alignment, torch.serialization.get_crc32_options()
    config.storage_alignment = alignment
    torch.serialization.set_crc32_options(checksums)
    try:
        check(tmp_path, mixed)
    finally:
        config.storage_alignment = before[0]
        torch.serialization.set_crc32_options(before[1])
    assert not shardplan.fallbacks()


def test_skip_data(tmp_path: Path) -> None:
    with torch.serialization.skip_data():
        ours, upstream = both(tmp_path, lambda: {"x": torch.ones(5)})
    assert ours.outcome() == upstream.outcome()
    assert shardplan.fallbacks() == {"write data: torch.serialization.skip_data is active": 1}


@pytest.mark.parametrize("options", [{}, {"thread_count": 3}], ids=str)
def test_dtensors_and_sharded_tensors(options: dict[str, Any], tmp_path: Path) -> None:
    with world(1, 4):
        mesh = init_device_mesh("cpu", (2, 2))

        def make() -> StateDict:
            generator = torch.Generator().manual_seed(2)
            made: StateDict = {
                f"dtensor.{at}": DTensor.from_local(
                    torch.randn(5 + at, 6, generator=generator),
                    mesh,
                    [Shard(0), placement],
                    run_check=False,
                )
                for at, placement in enumerate([Shard(1), Replicate(), Shard(0)])
            }
            boxes = [([2 * rank, 0], [2, 5], rank) for rank in range(4)]
            made["sharded"] = sharded_tensor_of((8, 5), boxes)
            return made

        def plan_of_rank_1(planner: SavePlanner) -> SavePlan:
            return planner.create_local_plan()

        outcomes = []
        for name, writer, planner in (
            ("ours", shardplan.FileSystemWriter, shardplan.DefaultSavePlanner()),
            ("upstream", dcp.FileSystemWriter, dcp.DefaultSavePlanner()),
        ):
            used = writer(tmp_path / name, sync_files=False, **options)
            planner.set_up_planner(make(), None, False)
            used.set_up_storage_writer(False)
            plan = used.prepare_global_plan([used.prepare_local_plan(plan_of_rank_1(planner))])[0]
            results = used.write_data(planner.finish_plan(plan), planner).wait()
            files = {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
            outcomes.append((files, {result.index: result for result in results}))
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0][1]) == 4
    assert not shardplan.fallbacks()


class Hooked(dcp.DefaultSavePlanner):
    """Changes what is saved, and notes the calls."""

    def set_up_planner(self, *args: Any, **kwargs: Any) -> None:
        super().set_up_planner(*args, **kwargs)
        self.calls: list[str] = []

    def transform_object(self, write_item: WriteItem, object: Any) -> Any:
        self.calls.append(write_item.index.fqn)
        if isinstance(object, torch.Tensor) and object.dtype == torch.float32:
            object = object * 2
        if write_item.index.fqn == "layer.3.weight":
            object = object.as_subclass(Subclass)
        return super().transform_object(write_item, object)


def test_hooks_are_called_as_upstream_calls_them(tmp_path: Path) -> None:
    saves = []
    planners = []
    for name, writer in (("ours", shardplan.FileSystemWriter), ("upstream", dcp.FileSystemWriter)):
        (tmp_path / name).mkdir()
        planners.append(Hooked())
        saves.append(Saved(tmp_path / name, writer, planners[-1], mixed(), {}))
    assert saves[0].outcome() == saves[1].outcome()
    assert planners[0].calls == planners[1].calls
    assert shardplan.fallbacks() == {NOT_PLAIN: 1}


def test_a_hook_of_the_object(tmp_path: Path) -> None:
    planner = shardplan.DefaultSavePlanner()
    planner.lookup_object = lambda index: torch.full((4,), 7.0)  # type: ignore[method-assign]
    ours = Saved(tmp_path, shardplan.FileSystemWriter, planner, {"x": torch.zeros(4)}, {})
    assert ours.error is None
    (tmp_path / ".metadata").unlink(missing_ok=True)
    content = next(iter(ours.files.values()))
    assert torch.full((4,), 7.0).numpy().tobytes() in content


def test_the_state_dict_is_looked_up_when_it_is_written(tmp_path: Path) -> None:
    state_dict = {"x": torch.zeros(4)}
    planner = shardplan.DefaultSavePlanner(flatten_state_dict=False)

    def change() -> None:
        planner.state_dict["x"] = torch.full((4,), 7.0)

    saved = Saved(tmp_path, shardplan.FileSystemWriter, planner, state_dict, {}, between=change)
    assert torch.full((4,), 7.0).numpy().tobytes() in next(iter(saved.files.values()))


def test_extensions_are_upstreams(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    check(tmp_path / "1", mixed, _extensions=[Inverted()])
    assert shardplan.fallbacks() == {"write data: the writer has stream extensions": 1}


def test_modes_see_upstreams_operations(tmp_path: Path) -> None:
    class Mode(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return func(*args, **(kwargs or {}))

    with Mode():
        ours, upstream = both(tmp_path, lambda: {"x": torch.ones(9)[2:5]})
    assert ours.outcome() == upstream.outcome()
    assert shardplan.fallbacks()


def test_a_writer_that_overrides_its_hooks(tmp_path: Path) -> None:
    class Renames(shardplan.FileSystemWriter):
        def _write_data(self, planner: Any, file_queue: Any) -> Any:
            raise RuntimeError("mine")

    saved = Saved(tmp_path, Renames, shardplan.DefaultSavePlanner(), mixed(), {})
    assert str(saved.error) == "mine"


def test_a_dtype_that_torch_stores_in_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts of each dtype are compared with those of torch.save before the first one."""
    real = tensor_writing._samples

    def changed(dtype: str) -> Iterator[tuple[torch.Tensor, bytes]]:
        for tensor, part in real(dtype):
            yield tensor, part + b" " if dtype == "float16" else part

    monkeypatch.setattr(tensor_writing, "_samples", changed)
    tensor_writing._parts.cache_clear()
    try:
        check(tmp_path, mixed)
    finally:
        tensor_writing._parts.cache_clear()
    assert shardplan.fallbacks() == {NOT_PLAIN: 1}


def test_a_torch_that_writes_another_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_writing, "_saved", lambda tensor: b"other")
    tensor_writing._parts.cache_clear()
    try:
        check(tmp_path, mixed)
    finally:
        tensor_writing._parts.cache_clear()
    assert shardplan.fallbacks() == {
        "write data: the installed torch.save writes another format": 1
    }


def test_threads_and_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    writer = shardplan.FileSystemWriter(
        tmp_path, write_threads=3, progress=lambda done, wanted: seen.append((done, wanted))
    )
    state_dict = {f"x{at}": torch.ones(500_000) for at in range(40)}
    dcp.save(state_dict, storage_writer=writer, no_dist=True)
    assert seen[-1] == (80_000_000, 80_000_000)
    assert all(wanted == 80_000_000 for _, wanted in seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    with pytest.raises(ValueError, match="write_threads must be at least 1, not 0"):
        shardplan.FileSystemWriter(tmp_path, write_threads=0)


def test_an_exception_of_progress_ends_the_save(tmp_path: Path) -> None:
    def stop(done: int, wanted: int) -> None:
        raise RuntimeError("enough")

    for options in ({}, {"thread_count": 3}):
        writer = shardplan.FileSystemWriter(tmp_path, progress=stop, **options)
        planner = dcp.DefaultSavePlanner()
        planner.set_up_planner({f"x{at}": torch.ones(9) for at in range(9)}, None, True)
        plan = writer.prepare_global_plan([planner.create_local_plan()])[0]
        with pytest.raises(RuntimeError, match="enough"):
            writer.write_data(plan, planner)


def full_disk(path: Path) -> Path:
    """The first file of a save goes to a device without space."""
    path.mkdir()
    (path / "__0_0.distcp").symlink_to("/dev/full")
    return path


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_full_disk(size: int, tmp_path: Path) -> None:
    errors = []
    for name, writer in (("ours", shardplan.FileSystemWriter), ("upstream", dcp.FileSystemWriter)):
        path = full_disk(tmp_path / name)
        used = writer(path, sync_files=False)
        planner = dcp.DefaultSavePlanner()
        planner.set_up_planner({"x": torch.ones(size)}, None, True)
        plan = used.prepare_global_plan([planner.create_local_plan()])[0]
        with pytest.raises(Exception) as raised:
            used.write_data(plan, planner)
        errors.append(raised.value)
    assert isinstance(errors[0], OSError)
    assert errors[0].errno == errno.ENOSPC
    assert errors[0].filename == str(tmp_path / "ours" / "__0_0.distcp")
    if hasattr(errors[0], "__notes__"):
        assert "while writing 'x'" in errors[0].__notes__[0]
    assert isinstance(errors[1], OSError)


def test_a_directory_that_vanished(tmp_path: Path) -> None:
    outcomes = []
    for writer in (shardplan.FileSystemWriter, dcp.FileSystemWriter):
        used = writer(tmp_path / "gone", sync_files=False)
        planner = dcp.DefaultSavePlanner()
        planner.set_up_planner(mixed(), None, True)
        plan = used.prepare_global_plan([planner.create_local_plan()])[0]
        with pytest.raises(FileNotFoundError) as raised:
            used.write_data(plan, planner)
        outcomes.append(str(raised.value))
    assert outcomes[0] == outcomes[1]


def test_a_failing_thread_ends_the_others(tmp_path: Path) -> None:
    """Upstream's threads fail without a word; ours raises, and no thread outlives the call."""
    writer = shardplan.FileSystemWriter(tmp_path, sync_files=False, thread_count=4)
    planner = dcp.DefaultSavePlanner()
    planner.set_up_planner(mixed(), None, True)
    plan = writer.prepare_global_plan([writer.prepare_local_plan(planner.create_local_plan())])[0]
    (tmp_path / "__0_2.distcp").mkdir()
    before = threading.active_count()
    with pytest.raises(IsADirectoryError):
        writer.write_data(plan, planner)
    assert threading.active_count() == before


@pytest.mark.parametrize("planner", [dcp.DefaultSavePlanner, shardplan.DefaultSavePlanner])
def test_whole_saves_are_loaded_by_upstream(planner: Any, tmp_path: Path) -> None:
    state_dict = mixed()
    metadata = dcp.save(
        state_dict,
        storage_writer=shardplan.FileSystemWriter(tmp_path, thread_count=2),
        planner=planner(),
        no_dist=True,
    )
    assert isinstance(metadata, Metadata)
    targets = {
        name: torch.zeros_like(value) if isinstance(value, torch.Tensor) else None
        for name, value in state_dict.items()
    }
    dcp.load(targets, storage_reader=dcp.FileSystemReader(tmp_path), no_dist=True)
    for name, value in state_dict.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(targets[name], value), name
        else:
            assert targets[name] == value
    assert not shardplan.fallbacks()
