"""Tensors that are read natively into CUDA memory, against upstream's ``read_data``."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader

import shardplan
from parity.stored_boxes import Read, StoredBoxes, bits, item_of, outcomes, read, saved
from parity.test_read_data import (
    DTYPES,
    SHAPES,
    USUAL,
    WANTED,
    layouts,
    random_tensor,
    stored_layout,
    stored_shapes,
)
from shardplan.dcp import fallbacks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

LARGE = (5, 1 << 20)
"""20 MiB of float32: more than the pinned buffers of a thread."""


@pytest.fixture(autouse=True)
def counted() -> Any:
    fallbacks.clear()
    yield
    fallbacks.clear()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    stored, items = stored_shapes(dtype, tmp_path)

    def targets() -> dict[str, Any]:
        return {
            name: torch.empty(shape, dtype=dtype, device="cuda") for name, shape in SHAPES.items()
        }

    ours, upstream = outcomes(stored, items, targets)
    assert ours == upstream


@pytest.mark.parametrize("to", USUAL, ids=str)
@pytest.mark.parametrize("of", USUAL, ids=str)
def test_every_conversion(of: torch.dtype, to: torch.dtype, tmp_path: Path) -> None:
    values = torch.randn(37, 23, generator=torch.Generator().manual_seed(5)) * 100
    stored = StoredBoxes(tmp_path)
    index = stored.add("x", saved(values.to(of)), (0, 0))
    ours, upstream = outcomes(
        stored, [item_of(index, (37, 23))], lambda: {"x": torch.zeros(37, 23).to(to).cuda()}
    )
    assert ours == upstream


def target_layouts() -> dict[str, Callable[[tuple[int, int]], torch.Tensor]]:
    return {
        "contiguous": lambda shape: torch.zeros(shape, device="cuda"),
        "transposed": lambda shape: torch.zeros(shape[::-1], device="cuda").t(),
        "every other element": lambda shape: torch.zeros(shape[0], 2 * shape[1], device="cuda")[
            :, ::2
        ],
        "double": lambda shape: torch.zeros(shape, dtype=torch.float64, device="cuda"),
        "parameter": lambda shape: torch.nn.Parameter(torch.zeros(shape, device="cuda")),
    }


@pytest.mark.parametrize("target", target_layouts())
@pytest.mark.parametrize("layout", layouts())
def test_every_layout(layout: str, target: str, tmp_path: Path) -> None:
    stored, index = stored_layout(layout, tmp_path)
    for offsets, sizes in WANTED:
        make = target_layouts()[target]
        items = [item_of(index, sizes, offsets)]
        ours, upstream = outcomes(stored, items, lambda: {"x": make(sizes)})  # noqa: B023
        assert ours == upstream
    assert not shardplan.fallbacks()


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_tensors_larger_than_the_buffers(threads: int, tmp_path: Path) -> None:
    """Boxes of tensors of both devices, each in several pieces."""
    chance = random.Random(threads)
    stored = StoredBoxes(tmp_path)
    items, sizes = [], {}
    for at in range(12):
        index = stored.add(f"t{at}", saved(random_tensor(LARGE, torch.float32, at)), (0, 0))
        offset = (chance.randrange(3), chance.randrange(1 << 19))
        sizes[f"t{at}"] = (5 - offset[0], (1 << 20) - offset[1] - chance.randrange(1000))
        items.append(item_of(index, sizes[f"t{at}"], offset))

    def targets() -> dict[str, Any]:
        return {
            name: torch.zeros(size, device="cpu" if name == "t3" else "cuda")
            for name, size in sizes.items()
        }

    ours = Read(
        lambda path: shardplan.FileSystemReader(path, thread_count=threads), stored, items, targets
    )
    upstream = Read(FileSystemReader, stored, items, targets)
    assert ours.outcome() == upstream.outcome()
    assert not shardplan.fallbacks()


def test_kernels_queued_before_the_load_end_before_it(tmp_path: Path) -> None:
    """A kernel that still writes to the target must not overwrite what is read."""
    stored = StoredBoxes(tmp_path)
    wanted = random_tensor((1 << 20,), torch.float32)
    items = [item_of(stored.add("x", saved(wanted), (0,)), (1 << 20,))]
    for stream in (torch.cuda.current_stream(), torch.cuda.Stream()):
        with torch.cuda.stream(stream):
            target = torch.empty(1 << 20, device="cuda")
            torch.cuda._sleep(200_000_000)
            target.fill_(7.0)
            read(shardplan.FileSystemReader(tmp_path), stored, items, {"x": target})
            copied = target.clone()
        stream.synchronize()
        assert bits(copied) == bits(wanted)
        assert bits(target) == bits(wanted)
    assert not shardplan.fallbacks()


def test_the_callers_device_and_stream_stay(tmp_path: Path) -> None:
    stored = StoredBoxes(tmp_path)
    items = [item_of(stored.add("x", saved(torch.ones(99)), (0,)), (99,))]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        before = torch.cuda.current_device(), torch.cuda.current_stream()
        read(shardplan.FileSystemReader(tmp_path), stored, items, {"x": torch.zeros(99).cuda()})
        assert (torch.cuda.current_device(), torch.cuda.current_stream()) == before


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_targets_on_two_devices(tmp_path: Path) -> None:
    stored = StoredBoxes(tmp_path)
    items = [
        item_of(stored.add(f"t{at}", saved(random_tensor(LARGE, torch.float32, at)), (0, 0)), LARGE)
        for at in range(6)
    ]

    def targets() -> dict[str, Any]:
        return {f"t{at}": torch.zeros(LARGE, device=f"cuda:{at % 2}") for at in range(6)}

    ours, upstream = outcomes(stored, items, targets)
    assert ours == upstream
    assert not shardplan.fallbacks()


def test_gradients_inference_mode_and_versions(tmp_path: Path) -> None:
    stored = StoredBoxes(tmp_path)
    wanted = random_tensor((100,), torch.float32)
    items = [item_of(stored.add("x", saved(wanted), (0,)), (100,))]
    parameter = torch.nn.Parameter(torch.zeros(100, device="cuda"))
    version = parameter._version
    read(shardplan.FileSystemReader(tmp_path), stored, items, {"x": parameter})
    assert parameter.requires_grad and parameter.grad_fn is None
    assert parameter._version > version
    with torch.inference_mode():
        target = torch.zeros(100, device="cuda")
        read(shardplan.FileSystemReader(tmp_path), stored, items, {"x": target})
        assert bits(target) == bits(wanted)
    assert bits(parameter) == bits(wanted)
    assert not shardplan.fallbacks()


def test_a_file_that_ends_too_early(tmp_path: Path) -> None:
    """The error names the tensor and the byte, and the next load works."""
    stored = StoredBoxes(tmp_path)
    part = saved(random_tensor(LARGE, torch.float32))
    items = [item_of(stored.add("x", part, (0, 0)), LARGE)]
    path = tmp_path / "__0_0.distcp"
    path.write_bytes(part[: len(part) // 2])
    target = torch.zeros(LARGE, device="cuda")
    ours, upstream = outcomes(stored, items, lambda: {"x": torch.zeros(LARGE, device="cuda")})
    assert ours == upstream
    path.write_bytes(part)
    read(shardplan.FileSystemReader(tmp_path), stored, items, {"x": target})
    assert bits(target) == bits(random_tensor(LARGE, torch.float32))
