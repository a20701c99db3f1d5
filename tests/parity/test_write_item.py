"""The twin of ``filesystem._write_item``: same bytes, results, streams and errors."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.filesystem import SerializationFormat, _StorageWriterTransforms
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import WriteItem, WriteItemType
from torch.distributed.checkpoint.planner_helpers import _create_write_item_for_tensor

import shardplan
from parity.comparison import assert_same_answer
from parity.extensions import Inverted
from shardplan.dcp.storage import item_writing
from shardplan.dcp.upstream import originals


def with_attribute() -> torch.Tensor:
    tensor = torch.arange(6.0)
    tensor.name_of_it = "x"  # type: ignore[attr-defined]
    return tensor


BYTES = WriteItem(MetadataIndex("bytes"), WriteItemType.BYTE_IO)

DATA: dict[str, Callable[[], Any]] = {
    "float": lambda: torch.arange(6.0),
    "a parameter": lambda: torch.nn.Parameter(torch.arange(6.0)),
    "bfloat16": lambda: torch.arange(6.0).bfloat16().view(2, 3),
    "transposed": lambda: torch.arange(6).view(2, 3).t(),
    "a view of a part": lambda: torch.arange(60.0)[7:9],
    "scalar": lambda: torch.tensor(3),
    "empty": lambda: torch.empty(0, 4),
    "large": lambda: torch.arange(1 << 17),
    "large and transposed": lambda: torch.arange(1 << 17).view(2, -1).t(),
    "that requires grad": lambda: torch.ones(3, requires_grad=True),
    "with an attribute": with_attribute,
    "a view of all": lambda: torch.arange(6.0).view(2, 3),
    "expanded": lambda: torch.ones(1).expand(5),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "conjugated": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "meta": lambda: torch.empty(3, device="meta"),
    "bytes": lambda: io.BytesIO(b"abc"),
    "a number": lambda: 3,
}


def item_of(data: Any) -> WriteItem:
    tensor = data if isinstance(data, torch.Tensor) else torch.ones(3)
    return _create_write_item_for_tensor("w", tensor)


def written(write: Callable[..., Any], folder: Path, name: str, *data: Any, **how: Any) -> Any:
    """Returns the results, the contents of the file, and where the stream is after each item."""
    transforms = _StorageWriterTransforms(how.get("extensions"))
    wire_format = how.get("wire_format", SerializationFormat.TORCH_SAVE)
    results = []
    path = folder / name
    with how.get("opened", lambda path: path.open(how.get("mode", "wb")))(path) as stream:
        stream.write(b"before")
        for each in data:
            item = how.get("item", item_of)(each)
            result = write(transforms, stream, each, item, "__0_0.distcp", wire_format)
            results.append((result, result.index is item.index, stream.tell()))
            # An item is in the file when its call returns.
            results.append(path.stat().st_size if path.exists() else stream.tell())
        contents = stream.getvalue() if isinstance(stream, io.BytesIO) else None
    return results, path.read_bytes() if path.exists() else contents


def assert_written(folder: Path, *makers: Callable[[], Any], **how: Any) -> None:
    assert_same_answer(
        lambda: written(item_writing._write_item, folder, "ours", *[m() for m in makers], **how),
        lambda: written(originals.write_item, folder, "upstream", *[m() for m in makers], **how),
    )


@pytest.mark.parametrize("make", DATA.values(), ids=DATA)
def test_one_item(tmp_path: Path, make: Callable[[], Any]) -> None:
    assert_written(tmp_path, make)


def test_items_one_after_another(tmp_path: Path) -> None:
    names = ("float", "large", "sparse", "transposed", "large", "empty", "a parameter")
    assert_written(tmp_path, *(DATA[name] for name in names))


@pytest.mark.parametrize("make", DATA.values(), ids=DATA)
def test_byte_entry(tmp_path: Path, make: Callable[[], Any]) -> None:
    assert_written(tmp_path, make, item=lambda data: BYTES)


@pytest.mark.parametrize("name", ["float", "large"])
def test_other_streams(tmp_path: Path, name: str) -> None:
    make = DATA[name]
    assert_written(tmp_path, make, make, opened=lambda path: io.BytesIO())
    assert_written(tmp_path, make, make, opened=lambda path: path.open("wb", buffering=0))
    for file in ("ours", "upstream"):
        (tmp_path / file).unlink()
    assert_written(tmp_path, make, make, mode="ab")


@pytest.mark.parametrize("name", ["float", "large", "sparse"])
def test_safetensors_format(tmp_path: Path, name: str) -> None:
    """Upstream writes nothing then: its caller writes the file."""
    assert_written(tmp_path, DATA[name], wire_format=SerializationFormat.SAFETENSORS)


def test_extensions(tmp_path: Path) -> None:
    assert_written(tmp_path, DATA["float"], extensions=[Inverted()])


class Full(io.BytesIO):
    def write(self, data: Any) -> int:
        if len(data) > 6:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_failing_stream(tmp_path: Path) -> None:
    """Upstream's error is torch.save's, which does not name the cause."""
    with pytest.raises(OSError, match="No space left on device"):
        written(item_writing._write_item, tmp_path, "x", torch.ones(9), opened=lambda path: Full())
    with pytest.raises(OSError), open("/dev/full", "wb") as full:
        item_writing._write_item(
            _StorageWriterTransforms(),
            full,
            torch.arange(1 << 17),
            item_of(torch.arange(1 << 17)),
            "__0_0.distcp",
            SerializationFormat.TORCH_SAVE,
        )


def test_what_is_native_and_what_falls_back(tmp_path: Path) -> None:
    def fallbacks() -> int:
        return sum(n for reason, n in shardplan.fallbacks().items() if reason.startswith("write i"))

    before = fallbacks()
    for name in ("float", "a view of all", "transposed", "scalar", "empty", "large", "bytes"):
        item = BYTES if name == "bytes" else None
        how = {"item": lambda data: BYTES} if item else {}
        written(item_writing._write_item, tmp_path, name, DATA[name](), **how)
    assert fallbacks() == before
    written(item_writing._write_item, tmp_path, "sparse", DATA["sparse"]())
    assert fallbacks() == before + 1


def test_register_reaches_it() -> None:
    with shardplan.registered():
        assert filesystem._write_item is item_writing._write_item
    assert filesystem._write_item is originals.write_item


@pytest.mark.parametrize("name", ["float", "large"])
def test_replaced_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A caller that replaces ``torch.save`` gets its function called."""
    seen = []
    real = torch.save

    def save(obj: Any, *args: Any, **kwargs: Any) -> None:
        seen.append(obj)
        real(obj, *args, **kwargs)

    monkeypatch.setattr(torch, "save", save)
    written(item_writing._write_item, tmp_path, "x", DATA[name]())
    assert len(seen) == 1
