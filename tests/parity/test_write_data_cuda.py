"""CUDA tensors that are written natively, against upstream's files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

import shardplan
from parity.test_read_data import DTYPES, random_tensor
from parity.test_write_data import SHAPES, StateDict, check, layouts
from parity.test_write_order import Streams, write
from shardplan.dcp import fallbacks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    fallbacks.clear()
    yield
    fallbacks.clear()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_byte_for_byte(dtype: torch.dtype, tmp_path: Path) -> None:
    def make() -> StateDict:
        return {name: random_tensor(shape, dtype).cuda() for name, shape in SHAPES.items()}

    check(tmp_path, make)
    if "float4" not in str(dtype):
        assert not shardplan.fallbacks()


@pytest.mark.parametrize("layout", layouts())
def test_every_layout(layout: str, tmp_path: Path) -> None:
    """The layouts of the CPU, on the device: with the same storage, offset and strides."""
    tensor = layouts()[layout]().detach()
    with torch.inference_mode(tensor.is_inference()):
        storage = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage()).cuda()
        on_device = storage.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
    check(tmp_path, lambda: {"x": on_device, "y": torch.ones(3)})
    assert not shardplan.fallbacks()


@pytest.mark.parametrize(
    "options", [{}, {"thread_count": 3}, {"per_thread_copy_ahead": 0}], ids=str
)
def test_many_of_many_sizes(options: dict[str, int], tmp_path: Path) -> None:
    """More than the two pinned buffers of a thread, beside small tensors and tensors on the CPU."""
    generator = torch.Generator().manual_seed(1)

    def make() -> StateDict:
        sizes = [at * 7919 % 3_000_000 for at in range(40)]
        tensors = {
            f"x{at}": torch.randint(0, 255, (size,), dtype=torch.uint8, generator=generator)
            for at, size in enumerate(sizes)
        }
        return {
            name: tensor if at % 5 == 0 else tensor.cuda()
            for at, (name, tensor) in enumerate(tensors.items())
        }

    made = make() | {"large": torch.randn(5_000_000, device="cuda"), "step": 4}
    check(tmp_path, lambda: made, **options)
    assert not shardplan.fallbacks()


def test_values_that_are_still_being_computed(tmp_path: Path) -> None:
    """Copies wait for the work that is queued on the caller's stream."""
    matrix = torch.randn(2000, 2000, device="cuda")
    expected = matrix
    for _ in range(50):
        expected = expected @ matrix / 40
    torch.cuda.synchronize()
    late = matrix
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(50):
            late = late @ matrix / 40
        ours = check(tmp_path, lambda: {"x": late})
    torch.cuda.synchronize()
    content = next(iter(ours.files.values()))
    assert expected.cpu().numpy().tobytes() in content


@pytest.mark.parametrize("options", [{}, {"thread_count": 3}], ids=str)
def test_safetensors_files(options: dict[str, int], tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="the format needs its library")
    from parity.test_write_safetensors import check as check_safetensors

    made = {f"x{at}": torch.randn(at * 7919 % 300_000, device="cuda") for at in range(40)}
    made |= {f"half{at}": torch.randn(3, at + 1, device="cuda").half() for at in range(9)}
    made |= {"view": torch.randn(9, 30, device="cuda")[:, 3:9], "cpu": torch.ones(4)}
    made |= {"tied": made["x3"]}
    check_safetensors(tmp_path, lambda: dict(made), **options)
    assert not shardplan.fallbacks()


def test_memory_that_a_tensor_gives_up_while_it_is_written(tmp_path: Path) -> None:
    made = {
        f"x{at}": torch.nn.Parameter(torch.full((300_000,), float(at), device="cuda"), False)
        for at in range(40)
    }
    expected = {name: tensor.detach().clone() for name, tensor in made.items()}

    def replace() -> None:
        for tensor in made.values():
            tensor.data = torch.zeros(2, device="cuda")

    (tmp_path / "ours").mkdir()
    writer = shardplan.FileSystemWriter(tmp_path / "ours", sync_files=False)
    writer.fs = Streams([], replace)
    write(writer, dcp.DefaultSavePlanner(), dict(made))
    (tmp_path / "upstream").mkdir()
    upstream = dcp.FileSystemWriter(tmp_path / "upstream", sync_files=False)
    write(upstream, dcp.DefaultSavePlanner(), expected)
    files = [(tmp_path / name / "__0_0.distcp").read_bytes() for name in ("ours", "upstream")]
    assert files[0] == files[1]
