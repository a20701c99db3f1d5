"""Tensors that are read natively, against upstream's ``read_data``: every bit and every error."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import ReadItem

import shardplan
from parity.stored_boxes import Read, StoredBoxes, item_of, outcomes, saved
from shardplan.dcp import fallbacks


def _dtypes() -> list[torch.dtype]:
    """All dtypes but quantized ones, raw bits, and ints of fewer than 8 bits."""
    names = (str(each).removeprefix("torch.") for each in vars(torch).values() if is_dtype(each))
    small = re.compile(r"q|bits|u?int[1-7]$")
    return [getattr(torch, name) for name in sorted(set(names)) if not small.match(name)]


def is_dtype(value: object) -> bool:
    return isinstance(value, torch.dtype)


DTYPES = _dtypes()
USUAL = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def random_tensor(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 1) -> torch.Tensor:
    """Elements of any bits; for bool, of the two that are valid."""
    count = torch.Size(shape).numel() * dtype.itemsize
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randint(0, 256, (count,), dtype=torch.uint8, generator=generator)
    if dtype is torch.bool:
        raw = raw % 2
    return raw.view(dtype).view(shape)


@pytest.fixture(autouse=True)
def counted() -> Any:
    fallbacks.clear()
    yield
    fallbacks.clear()


SHAPES = {"scalar": (), "vector": (7,), "matrix": (5, 9), "empty": (0, 3), "large": (300, 500)}


def stored_shapes(dtype: torch.dtype, path: Path) -> tuple[StoredBoxes, list[ReadItem]]:
    """Stores a tensor of each of SHAPES, and returns items that read all of each."""
    stored = StoredBoxes(path)
    items = []
    for name, shape in SHAPES.items():
        index = stored.add(name, saved(random_tensor(shape, dtype)), (0,) * len(shape))
        items.append(item_of(index, shape))
    return stored, items


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    stored, items = stored_shapes(dtype, tmp_path)

    def targets() -> dict[str, Any]:
        return {name: random_tensor(shape, dtype, seed=2) for name, shape in SHAPES.items()}

    ours, upstream = outcomes(stored, items, targets)
    assert ours == upstream
    if isinstance(upstream, dict) and dtype.itemsize >= 1 and "float4" not in str(dtype):
        assert not shardplan.fallbacks()


@pytest.mark.parametrize("to", USUAL, ids=str)
@pytest.mark.parametrize("of", USUAL, ids=str)
def test_every_conversion(of: torch.dtype, to: torch.dtype, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(37, 23, generator=generator) * 100
    stored = StoredBoxes(tmp_path)
    index = stored.add("x", saved(values.to(of)), (0, 0))
    ours, upstream = outcomes(
        stored, [item_of(index, (37, 23))], lambda: {"x": torch.zeros(37, 23).to(to)}
    )
    assert ours == upstream
    # Conversions to integers are upstream's, because they are undefined for large numbers.
    is_left = of.is_floating_point and not to.is_floating_point and to is not torch.bool
    assert bool(shardplan.fallbacks()) == is_left


WANTED = (((0, 0), (6, 10)), ((1, 3), (4, 5)), ((2, 0), (3, 10)))
"""Offsets and sizes of boxes of a 6 x 10 tensor."""


def stored_layout(layout: str, path: Path) -> tuple[StoredBoxes, MetadataIndex]:
    """Stores a 6 x 10 tensor in one of ``layouts``."""
    stored = StoredBoxes(path)
    values = torch.arange(60, dtype=torch.float32).view(6, 10)
    return stored, stored.add("x", saved(layouts()[layout](values)), (0, 0))


def layouts() -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Ways to store the elements of a 6 x 10 tensor."""

    def part_of_larger(tensor: torch.Tensor) -> torch.Tensor:
        larger = torch.zeros(9, 13, dtype=tensor.dtype)
        larger[2:8, 1:11] = tensor
        return larger[2:8, 1:11]

    return {
        "contiguous": lambda tensor: tensor,
        "transposed": lambda tensor: tensor.t().contiguous().t(),
        "part of a larger storage": part_of_larger,
        "every other element": lambda tensor: tensor.repeat_interleave(2, dim=1)[:, ::2],
        "expanded": lambda tensor: tensor[:1].expand(6, 10),
        "parameter": lambda tensor: torch.nn.Parameter(tensor.clone()),
        "requires grad": lambda tensor: tensor.clone().requires_grad_(),
    }


def target_layouts() -> dict[str, Callable[[tuple[int, int]], torch.Tensor]]:
    return {
        "contiguous": lambda shape: torch.zeros(shape),
        "transposed": lambda shape: torch.zeros(shape[::-1]).t(),
        "part of a larger tensor": lambda shape: torch.zeros(30, 30)[1:, 2:][
            : shape[0], : shape[1]
        ],
        "every other element": lambda shape: torch.zeros(shape[0], 2 * shape[1])[:, ::2],
        "parameter": lambda shape: torch.nn.Parameter(torch.zeros(shape)),
        "requires grad": lambda shape: torch.zeros(shape, requires_grad=True),
        "double": lambda shape: torch.zeros(shape, dtype=torch.float64),
        "transposed double": lambda shape: torch.zeros(shape[::-1], dtype=torch.float64).t(),
        "expanded": lambda shape: torch.zeros(shape[0], 1).expand(shape),
        "negated": lambda shape: torch._neg_view(torch.zeros(shape)),
        "lazily conjugated": lambda shape: torch.zeros(shape, dtype=torch.complex64).conj(),
        "int": lambda shape: torch.zeros(shape, dtype=torch.int32),
        "wrong size": lambda shape: torch.zeros(shape[0], shape[1] + 1),
        "meta": lambda shape: torch.zeros(shape, device="meta"),
        "sparse": lambda shape: torch.zeros(shape).to_sparse(),
    }


NOT_NATIVE = {"expanded", "negated", "lazily conjugated", "int", "sparse"}
"""Targets that are left to upstream. (A meta tensor fails before data is read.)"""


def without_storage(shape: tuple[int, int]) -> torch.Tensor:
    tensor = torch.zeros(shape)
    tensor.untyped_storage().resize_(0)
    return tensor


@pytest.mark.parametrize("target", target_layouts())
@pytest.mark.parametrize("layout", layouts())
def test_every_layout(layout: str, target: str, tmp_path: Path) -> None:
    stored, index = stored_layout(layout, tmp_path)
    for offsets, sizes in WANTED:
        items = [item_of(index, sizes, offsets)]
        make_target = functools.partial(target_layouts()[target], sizes)
        reads = [
            Read(reader, stored, items, lambda make=make_target: {"x": make()})
            for reader in (shardplan.FileSystemReader, FileSystemReader)
        ]
        if target in ("meta", "sparse"):
            assert [type(read.error) for read in reads] == [type(reads[1].error)] * 2
        else:
            assert reads[0].outcome() == reads[1].outcome()
    assert bool(shardplan.fallbacks()) == (target in NOT_NATIVE)


def test_a_target_without_memory_is_not_written() -> None:
    """Upstream copies into freed memory; ours reports it as upstream's work, and never writes."""
    from shardplan.dcp.native import native

    report = native.load_box(
        "/dev/null",
        "x",
        0,
        10,
        [0, 0],
        [2, 2],
        without_storage((2, 2)),
        threads=1,
        memory=1 << 20,
        verify=False,
        read_range=None,
        safetensors=None,
    )
    assert report is not None
    assert [reason for _, reason, _ in report.left] == [
        "the target is not a plain strided tensor on CPU or CUDA"
    ]


@pytest.mark.parametrize("seed", range(60))
def test_random_boxes_of_random_files(seed: int, tmp_path: Path) -> None:
    """Boxes of tensors that were saved in pieces, into targets of any layout and several dtypes."""
    chance = random.Random(seed)
    stored = StoredBoxes(tmp_path)
    items, shapes = [], {}
    dtypes = [torch.float32, torch.bfloat16, torch.int16, torch.float64]
    for number in range(chance.randrange(1, 12)):
        name = f"t{number}"
        dtype = chance.choice(dtypes)
        ndim = chance.randrange(4)
        shape = tuple(chance.randrange(1, chance.choice((6, 40))) for _ in range(ndim))
        tensor = random_tensor(shape, dtype, seed)
        if ndim == 2 and chance.random() < 0.3:
            tensor = tensor.t().contiguous().t()
        index = stored.add(name, saved(tensor), (0,) * ndim, file=f"__{chance.randrange(3)}.distcp")
        offsets = [chance.randrange(size) for size in shape]
        sizes = [chance.randrange(size - at + 1) for size, at in zip(shape, offsets, strict=True)]
        items.append(item_of(index, sizes, offsets))
        to = dtype if chance.random() < 0.7 else chance.choice(dtypes)
        shapes[name] = (sizes, to, ndim > 1 and chance.random() < 0.3)
    chance.shuffle(items)

    def targets() -> dict[str, Any]:
        made = {}
        for name, (sizes, dtype, is_transposed) in shapes.items():
            if is_transposed:
                made[name] = torch.zeros(sizes[::-1], dtype=dtype).permute(
                    *reversed(range(len(sizes)))
                )
            else:
                made[name] = torch.zeros(sizes, dtype=dtype)
        return made

    threads = chance.randrange(1, 4)
    ours = Read(
        lambda path: shardplan.FileSystemReader(path, thread_count=threads), stored, items, targets
    )
    upstream = Read(FileSystemReader, stored, items, targets)
    assert ours.outcome() == upstream.outcome()
    assert upstream.error is None


WRONG_BOXES = {
    "beyond the end": ((4, 0), (3, 10)),
    "negative offset": ((-2, 0), (2, 10)),
    "negative offset of a whole dim": ((-2, 3), (6, 2)),
    "too large": ((0, 0), (7, 10)),
    "fewer dims": ((0,), (6,)),
    "more dims": ((0, 0, 0), (6, 10, 1)),
}


@pytest.mark.parametrize("name", WRONG_BOXES)
def test_a_box_that_the_part_does_not_have(name: str, tmp_path: Path) -> None:
    offsets, sizes = WRONG_BOXES[name]
    stored = StoredBoxes(tmp_path)
    index = stored.add("x", saved(torch.arange(60.0).view(6, 10)), (0, 0))
    ours, upstream = outcomes(
        stored, [item_of(index, sizes, offsets)], lambda: {"x": torch.zeros(sizes)}
    )
    assert ours == upstream


def unusual_parts() -> dict[str, Any]:
    """Objects that ``torch.save`` writes and that are no plain tensor."""
    return {
        "a dict": {"a": torch.zeros(2)},
        "a number": 3,
        "quantized": torch.quantize_per_tensor(torch.ones(6, 10), 0.1, 0, torch.qint8),
        "sparse": torch.ones(6, 10).to_sparse(),
        "conjugated": torch.ones(6, 10, dtype=torch.complex64).conj(),
        "negated": torch._neg_view(torch.ones(6, 10)),
        "meta": torch.ones(6, 10, device="meta"),
        "complex": torch.ones(6, 10, dtype=torch.complex64),
        "nested in a list": [torch.ones(6, 10)],
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", unusual_parts())
def test_parts_that_are_no_plain_tensor(name: str, tmp_path: Path) -> None:
    stored = StoredBoxes(tmp_path)
    index = stored.add("x", saved(unusual_parts()[name]), (0, 0))
    ours, upstream = outcomes(
        stored, [item_of(index, (6, 10))], lambda: {"x": torch.full((6, 10), 9.0)}
    )
    assert ours == upstream
    assert shardplan.fallbacks() == {
        "read data: the part is not a plain tensor that fits its target": 1
    }


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_every_byte_of_a_part_flipped(bit: int, tmp_path: Path) -> None:
    """What native code reads is what upstream reads, whichever byte is wrong.

    For the rest, upstream's code gives the answer. A member that is marked as compressed, and is
    not, makes upstream read memory that it has not written; its answer then differs each time.
    """
    part = saved(torch.arange(12.0).view(3, 4))
    stored = StoredBoxes(tmp_path)
    index = stored.add("x", part, (0, 0))
    path = tmp_path / "__0_0.distcp"
    differing = []
    read_natively = 0
    for at in range(len(part)):
        damaged = bytearray(part)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        fallbacks.clear()
        ours, upstream = outcomes(
            stored, [item_of(index, (3, 4))], lambda: {"x": torch.full((3, 4), 9.0)}
        )
        if ours != upstream and not shardplan.fallbacks():
            differing.append((at, ours, upstream))
        read_natively += not shardplan.fallbacks()
    assert not differing
    assert read_natively > 48


def test_every_truncation(tmp_path: Path) -> None:
    part = saved(torch.arange(12.0).view(3, 4))
    stored = StoredBoxes(tmp_path)
    index = stored.add("x", part, (0, 0))
    for length in range(0, len(part), 7):
        (tmp_path / "__0_0.distcp").write_bytes(part[:length])
        ours, upstream = outcomes(
            stored, [item_of(index, (3, 4))], lambda: {"x": torch.full((3, 4), 9.0)}
        )
        assert ours == upstream, length


def test_a_missing_file(tmp_path: Path) -> None:
    stored = StoredBoxes(tmp_path)
    index = stored.add("x", saved(torch.zeros(3)), (0,))
    (tmp_path / "__0_0.distcp").unlink()
    ours, upstream = outcomes(stored, [item_of(index, (3,))], lambda: {"x": torch.zeros(3)})
    assert ours == upstream
    assert ours[0] is FileNotFoundError
