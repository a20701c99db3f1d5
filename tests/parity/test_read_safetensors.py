"""Tensors that are read natively from safetensors files, against upstream's ``read_data``."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import LoadPlan, ReadItem

import shardplan
from parity.stored_boxes import bits, item_of
from parity.test_read_data import DTYPES, random_tensor
from shardplan.dcp import fallbacks

safetensors = pytest.importorskip("safetensors", reason="the format needs its library")
from safetensors.torch import save_file  # noqa: E402

Targets = dict[str, Any]


@pytest.fixture(autouse=True)
def counted() -> Any:
    fallbacks.clear()
    yield
    fallbacks.clear()


def outcome(
    reader: dcp.FileSystemReader,
    targets: Targets,
    items: list[ReadItem] | None = None,
    planner: DefaultLoadPlanner | None = None,
    after_planning: Callable[[], None] = lambda: None,
) -> Any:
    """Loads targets, and returns their bits, or the exception.

    Args:
        items: what is read; by default, the items that the planner makes.
        after_planning: called before data is read.
    """
    try:
        metadata = reader.read_metadata()
        planner = planner or DefaultLoadPlanner()
        planner.set_up_planner(targets, metadata, True)
        reader.set_up_storage_reader(metadata, True)
        plan = (
            planner.finish_plan(planner.create_local_plan()) if items is None else LoadPlan(items)
        )
        after_planning()
        reader.read_data(plan, planner).wait()
    except Exception as error:
        return type(error), str(error)
    return {
        name: bits(target.to_local() if hasattr(target, "to_local") else target)
        for name, target in targets.items()
    }


def outcomes(path: Path, targets: Callable[[], Targets], **options: Any) -> tuple[Any, Any]:
    """Returns what ours and upstream's readers give."""
    return (
        outcome(shardplan.HuggingFaceStorageReader(path), targets(), **options),
        outcome(dcp.HuggingFaceStorageReader(str(path)), targets(), **options),
    )


def storable() -> list[torch.dtype]:
    """The dtypes that the library writes and upstream reads."""
    from safetensors.torch import _SIZE, _TYPES

    found = set(_TYPES.values()) & set(_SIZE)
    return [dtype for dtype in DTYPES if dtype in found]


SHAPES = {"scalar": (), "vector": (7,), "matrix": (5, 9), "empty": (0, 3), "large": (300, 500)}


@pytest.mark.parametrize("dtype", storable(), ids=str)
def test_every_dtype_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    if "float4" in str(dtype):
        pytest.skip("upstream has no shape for tensors of which two elements share a byte")
    tensors = {name: random_tensor(shape, dtype) for name, shape in SHAPES.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    ours, upstream = outcomes(
        tmp_path, lambda: {name: torch.zeros_like(each) for name, each in tensors.items()}
    )
    assert ours == upstream == {name: bits(each) for name, each in tensors.items()}
    assert not shardplan.fallbacks()


@pytest.mark.parametrize("to", [torch.float64, torch.bfloat16, torch.int32, torch.bool], ids=str)
@pytest.mark.parametrize("of", [torch.float32, torch.float16, torch.int64, torch.uint8], ids=str)
def test_conversions(of: torch.dtype, to: torch.dtype, tmp_path: Path) -> None:
    values = torch.randn(37, 23, generator=torch.Generator().manual_seed(5)) * 100
    save_file({"x": values.abs().to(of)}, tmp_path / "model.safetensors")
    ours, upstream = outcomes(tmp_path, lambda: {"x": torch.zeros(37, 23).to(to)})
    assert ours == upstream


def item(name: str, offsets: tuple[int, ...], sizes: tuple[int, ...]) -> ReadItem:
    """Reads a box of a stored tensor into the whole of the target with the same name."""
    return item_of(MetadataIndex(name, torch.Size([0] * len(sizes)), 0), sizes, offsets)


@pytest.mark.parametrize("seed", range(20))
def test_random_boxes_of_several_files(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    tensors = {}
    for file in range(rng.randint(1, 3)):
        names = [f"{file}.{at}" for at in range(rng.randint(1, 6))]
        made = {name: torch.randn(rng.randint(1, 70), rng.randint(1, 900)) for name in names}
        save_file(made, tmp_path / f"{file}.safetensors")
        tensors.update(made)
    items, shapes = [], {}
    for name, tensor in tensors.items():
        offsets = tuple(rng.randrange(size) for size in tensor.shape)
        sizes = tuple(rng.randint(0, n - at) for n, at in zip(tensor.shape, offsets, strict=True))
        items.append(item(name, offsets, sizes))
        shapes[name] = sizes
    rng.shuffle(items)
    ours, upstream = outcomes(
        tmp_path, lambda: {name: torch.zeros(shape) for name, shape in shapes.items()}, items=items
    )
    assert ours == upstream
    assert isinstance(ours, dict)
    assert not shardplan.fallbacks()


@pytest.mark.parametrize(
    ("offsets", "sizes"),
    [
        ((1, 0), (4, 6)),  # beyond the end, where a slice ends earlier
        ((0, 1), (3, 6)),
        ((-1, 0), (2, 6)),
        ((5, 0), (1, 6)),
        ((0, 0), (3, 7)),
        ((0,), (4,)),
        ((0, 0, 0), (4, 6, 1)),
    ],
)
def test_boxes_that_the_tensor_does_not_have(
    offsets: tuple[int, ...], sizes: tuple[int, ...], tmp_path: Path
) -> None:
    save_file({"x": torch.randn(4, 6)}, tmp_path / "model.safetensors")
    ours, upstream = outcomes(
        tmp_path, lambda: {"x": torch.zeros(sizes)}, items=[item("x", offsets, sizes)]
    )
    assert ours == upstream


def test_a_target_of_another_size(tmp_path: Path) -> None:
    save_file({"x": torch.randn(4, 6)}, tmp_path / "model.safetensors")

    class Narrower(DefaultLoadPlanner):
        def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
            return super().resolve_tensor(read_item)[:, :5]

    ours, upstream = (
        outcome(reader, {"x": torch.zeros(4, 6)}, planner=Narrower())
        for reader in (
            shardplan.HuggingFaceStorageReader(tmp_path),
            dcp.HuggingFaceStorageReader(str(tmp_path)),
        )
    )
    assert ours == upstream
    assert ours[0] is AssertionError


def test_a_planner_sees_each_tensor(tmp_path: Path) -> None:
    tensors = {f"w{at}": torch.randn(3, 40) for at in range(5)}
    save_file(tensors, tmp_path / "model.safetensors")

    class Doubles(DefaultLoadPlanner):
        def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
            tensor.mul_(2)

    ours = outcome(
        shardplan.HuggingFaceStorageReader(tmp_path),
        {name: torch.zeros(3, 40) for name in tensors},
        planner=Doubles(),
    )
    assert ours == {name: bits(tensor * 2) for name, tensor in tensors.items()}
    assert not shardplan.fallbacks()


def header_and_data(file: Path) -> tuple[dict[str, Any], bytes]:
    content = file.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def write(file: Path, header: dict[str, Any] | str, data: bytes) -> None:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


ENTRY = '{"dtype":"F32","shape":[4,6],"data_offsets":[0,96]}'
HEADERS = {
    "spaces": ' { "x" : ' + ENTRY.replace(",", " ,\n") + "}   ",
    "an unknown field": '{"x":' + ENTRY[:-1] + ',"more":[1,{}]}}',
    "an array": '{"x":["F32",[4,6],[0,96]]}',
    "escapes": '{"\\u0078":' + ENTRY + "}",
    "two of a name": '{"x":' + ENTRY.replace("F32", "I32") + ',"x":' + ENTRY + "}",
    "two of a field": '{"x":' + ENTRY[:-1] + ',"dtype":"F32"}}',
    "metadata": '{"__metadata__":{"a":"b"},"x":' + ENTRY + "}",
    "metadata that is null": '{"__metadata__":null,"x":' + ENTRY + "}",
    "metadata of numbers": '{"__metadata__":{"a":1},"x":' + ENTRY + "}",
    "another dtype": '{"x":' + ENTRY.replace("F32", "I32") + "}",
    "another shape": '{"x":' + ENTRY.replace("[4,6]", "[6,4]") + "}",
    "no tensors": "{}",
    "another tensor": '{"y":' + ENTRY + "}",
    "too many elements": '{"x":' + ENTRY.replace("[4,6]", "[4,7]") + "}",
    "a hole": '{"x":' + ENTRY.replace("[0,96]", "[4,100]") + "}",
    "text after it": '{"x":' + ENTRY + "}x",
    "an unknown dtype": '{"x":' + ENTRY.replace("F32", "F31") + "}",
    "a float": '{"x":' + ENTRY.replace("[4,6]", "[4.0,6]") + "}",
    "a comma at the end": '{"x":' + ENTRY + ",}",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_headers_after_planning(header: str, tmp_path: Path) -> None:
    """The file is replaced once it has been planned: upstream's answer, or its error."""
    file = tmp_path / "model.safetensors"
    data = torch.arange(24, dtype=torch.float32).numpy().tobytes()

    def damage() -> None:
        write(file, header, data)

    results = []
    for reader in (shardplan.HuggingFaceStorageReader, dcp.HuggingFaceStorageReader):
        save_file({"x": torch.randn(4, 6)}, file)
        targets = {"x": torch.zeros(4, 6)}
        results.append(outcome(reader(tmp_path), targets, after_planning=damage))
    assert results[0] == results[1]


def test_every_truncation_and_many_flipped_bits(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"x": torch.randn(4, 6), "y": torch.randn(5).half()}, file)
    whole = file.read_bytes()
    damaged = [whole[:size] for size in range(len(whole))]
    for at in range(len(whole) - 100):
        for bit in (0, 3, 6):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            damaged.append(bytes(flipped))

    def targets() -> Targets:
        return {"x": torch.zeros(4, 6), "y": torch.zeros(5).half()}

    for content in damaged:
        results = []
        for reader in (shardplan.HuggingFaceStorageReader, dcp.HuggingFaceStorageReader):
            file.write_bytes(whole)
            results.append(
                outcome(
                    reader(tmp_path),
                    targets(),
                    after_planning=lambda content=content: file.write_bytes(content) and None,
                )
            )
        assert results[0] == results[1], content


def test_a_file_that_vanished(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    results = []
    for reader in (shardplan.HuggingFaceStorageReader, dcp.HuggingFaceStorageReader):
        save_file({"x": torch.randn(4, 6)}, file)
        results.append(
            outcome(reader(tmp_path), {"x": torch.zeros(4, 6)}, after_planning=file.unlink)
        )
    assert results[0] == results[1]
    assert results[0][0] is FileNotFoundError
    assert shardplan.fallbacks() == {
        "read data: the file is not a plain safetensors file with this tensor": 1
    }


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    tensor = torch.randn(4, 6)
    save_file({"x": tensor}, Path("folder", "model.safetensors"))
    ours, upstream = outcomes(Path("folder"), lambda: {"x": torch.zeros(4, 6)})
    assert ours == upstream == {"x": bits(tensor)}
    assert not shardplan.fallbacks()


@pytest.mark.parametrize("threads", [1, 4])
def test_boxes_that_upstream_saved(threads: int, tmp_path: Path) -> None:
    """``save_sharded`` stores the offsets of boxes in the metadata of each file."""
    boxes = {(0, 0): torch.randn(3, 5), (3, 0): torch.randn(4, 5)}
    for at, (offsets, box) in enumerate(boxes.items()):
        sharding = json.dumps({"x": {"saved_offsets": offsets}})
        save_file({"x": box}, tmp_path / f"{at}.safetensors", {"DCP_SHARDING_INFO": sharding})
    reader = shardplan.HuggingFaceStorageReader(tmp_path, threads)
    ours = outcome(reader, {"x": torch.zeros(7, 5)})
    upstream = outcome(
        dcp.HuggingFaceStorageReader(str(tmp_path), threads), {"x": torch.zeros(7, 5)}
    )
    assert ours == upstream == {"x": bits(torch.cat(list(boxes.values())))}
    assert not shardplan.fallbacks()


def test_subclasses_that_process_requests_themselves(tmp_path: Path) -> None:
    save_file({"x": torch.ones(4, 6)}, tmp_path / "model.safetensors")

    class Doubles(shardplan.HuggingFaceStorageReader):
        def _process_read_request(self, f: Any, req: ReadItem, planner: Any) -> None:
            super()._process_read_request(f, req, planner)
            planner.resolve_tensor(req).mul_(2)

    assert outcome(Doubles(tmp_path), {"x": torch.zeros(4, 6)}) == {"x": bits(torch.ones(4, 6) * 2)}
    assert shardplan.fallbacks() == {"read data: the reader overrides _process_read_request": 1}


def test_quantized_reader_under_registration(tmp_path: Path) -> None:
    """Upstream's subclass for quantized tensors keeps its own way."""
    save_file({"x": torch.ones(4, 6)}, tmp_path / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"x": "model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with shardplan.registered():
        found = outcome(
            dcp.QuantizedHuggingFaceStorageReader(str(tmp_path)), {"x": torch.zeros(4, 6)}
        )
    assert found == outcome(
        dcp.QuantizedHuggingFaceStorageReader(str(tmp_path)), {"x": torch.zeros(4, 6)}
    )
    assert found == {"x": bits(torch.ones(4, 6))}


def test_a_replaced_library_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"x": torch.ones(4, 6)}, tmp_path / "model.safetensors")
    calls = []

    def replacement(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return original(*args, **kwargs)

    original = safetensors.safe_open
    reader = shardplan.HuggingFaceStorageReader(tmp_path)
    metadata = reader.read_metadata()
    targets = {"x": torch.zeros(4, 6)}
    planner = DefaultLoadPlanner()
    planner.set_up_planner(targets, metadata, True)
    reader.set_up_storage_reader(metadata, True)
    monkeypatch.setattr(safetensors, "safe_open", replacement)
    reader.read_data(planner.create_local_plan(), planner).wait()
    assert torch.equal(targets["x"], torch.ones(4, 6))
    assert len(calls) == 1


def test_options() -> None:
    with pytest.raises(ValueError, match="thread_count must be at least 1, not 0"):
        shardplan.HuggingFaceStorageReader("anywhere", 0)


def test_progress(tmp_path: Path) -> None:
    save_file({"x": torch.ones(4, 6)}, tmp_path / "model.safetensors")
    seen: list[tuple[int, int]] = []
    reader = shardplan.HuggingFaceStorageReader(
        tmp_path, progress=lambda done, wanted: seen.append((done, wanted))
    )
    dcp.load({"x": torch.zeros(4, 6)}, storage_reader=reader, no_dist=True)
    assert seen[-1] == (96, 96)
