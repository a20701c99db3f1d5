"""Objects that plan their own checkpoint: ``__create_write_items__``, ``__create_chunk_list__``."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import default_planner, planner_helpers
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

import shardplan
from parity.boxes import chunk, row_chunks, tensor_metadata
from parity.comparison import assert_same_answer
from parity.implementations import OURS
from shardplan.dcp.upstream import originals


class Rows:
    """Rows of a tensor of 8 x 4, in shards of two rows. It counts the calls of its methods."""

    def __init__(self, *starts: int, collect: Callable[[Iterable[Any]], Any] = list) -> None:
        self.starts = starts
        self.collect = collect
        self.calls: list[str] = []

    def size(self) -> torch.Size:
        self.calls.append("size")
        return torch.Size((8, 4))

    def chunks(self) -> Iterator[ChunkStorageMetadata]:
        for start in self.starts:
            yield ChunkStorageMetadata(torch.Size((start, 0)), torch.Size((2, 4)))

    def __create_write_items__(self, fqn: str, obj: object) -> Any:
        assert obj is self
        self.calls.append("write items")
        return self.collect(
            WriteItem(
                index=MetadataIndex(fqn, each.offsets, number),
                type=WriteItemType.SHARD,
                tensor_data=TensorWriteData(each, TensorProperties(), torch.Size((8, 4))),
            )
            for number, each in enumerate(self.chunks())
        )

    def __create_chunk_list__(self) -> Any:
        self.calls.append("chunk list")
        return self.collect(self.chunks())


class WithoutSize(Rows):
    size = None  # type: ignore[assignment]


class OtherSize(Rows):
    def size(self) -> torch.Size:
        self.calls.append("size")
        return torch.Size((8, 5))


class Wrapper(torch.Tensor):
    """A tensor without memory, as Megatron wraps its shards."""

    @staticmethod
    def __new__(cls, rows: Rows) -> Wrapper:
        return torch.Tensor._make_wrapper_subclass(cls, torch.Size((8, 4)))  # type: ignore[attr-defined,no-any-return]

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @property
    def calls(self) -> list[str]:
        return self._rows.calls

    def __create_write_items__(self, fqn: str, obj: object) -> Any:
        return self._rows.__create_write_items__(fqn, self._rows)

    def __create_chunk_list__(self) -> Any:
        return self._rows.__create_chunk_list__()

    @classmethod
    def __torch_dispatch__(cls, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


@dataclasses.dataclass
class OwnChunk(ChunkStorageMetadata):
    pass


class OwnChunks(Rows):
    def chunks(self) -> Iterator[ChunkStorageMetadata]:
        yield from (OwnChunk(each.offsets, each.sizes) for each in super().chunks())


class Raises(Rows):
    def __init__(self, error: type[Exception]) -> None:
        super().__init__(0)
        self._error = error

    def __create_write_items__(self, fqn: str, obj: object) -> Any:
        raise self._error(f"no items for {fqn}")

    def __create_chunk_list__(self) -> Any:
        raise self._error("no chunks")


class PropertyRaises:
    @property
    def __create_write_items__(self) -> Any:
        raise RuntimeError("not now")

    __create_chunk_list__ = __create_write_items__


class OnlyLoads(Rows):
    __create_write_items__ = property()  # type: ignore[assignment]


MAKERS: dict[str, Callable[[], Any]] = {
    "one shard": lambda: Rows(2),
    "shards in another order": lambda: Rows(6, 0, 4),
    "no shards": lambda: Rows(),
    "a tuple": lambda: Rows(2, 4, collect=tuple),
    "a generator": lambda: Rows(2, 4, collect=iter),
    "None": lambda: Rows(collect=lambda each: None),
    "no size": lambda: WithoutSize(2),
    "another size": lambda: OtherSize(2),
    "a tensor without memory": lambda: Wrapper(Rows(0, 6)),
    "chunks of a subclass": lambda: OwnChunks(2),
    "numbers": lambda: Rows(2, collect=lambda each: [1, 2]),
    "ValueError": lambda: Raises(ValueError),
    "AttributeError": lambda: Raises(AttributeError),
    "a property that raises": PropertyRaises,
    "no write items": lambda: OnlyLoads(2),
    "a stream": lambda: io.BytesIO(b"x"),
    "any object": lambda: Config(),
    "a class": lambda: Config,
    "an object that pretends to be a tensor": lambda: PretendsToBeATensor(),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_save_plan(make: Callable[[], Any]) -> None:
    ours, upstream = make(), make()
    for plan in (
        lambda create, obj: create({"a": torch.ones(2), "w": obj, "z": 3}, True).items,
        lambda create, obj: create({"w": obj}, False).items,
    ):
        assert_same_answer(
            lambda plan=plan: plan(shardplan.default_planner.create_default_local_save_plan, ours),
            lambda plan=plan: plan(originals.create_default_local_save_plan, upstream),
        )
    assert getattr(ours, "calls", 0) == getattr(upstream, "calls", 0)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_write_items(make: Callable[[], Any]) -> None:
    ours, upstream = make(), make()
    assert_same_answer(
        lambda: list(shardplan.planner_helpers._create_write_items("w", ours)),
        lambda: list(originals.create_write_items("w", upstream)),
    )
    assert getattr(ours, "calls", 0) == getattr(upstream, "calls", 0)


SAVED: dict[str, Callable[[], Any]] = {
    "rows of three": lambda: tensor_metadata((8, 4), row_chunks(8, 3, 4)),
    "whole": lambda: tensor_metadata((8, 4), [chunk((0, 0), (8, 4))]),
    "bytes": BytesStorageMetadata,
}


@pytest.mark.parametrize("saved", SAVED.values(), ids=SAVED)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_load_plan(make: Callable[[], Any], saved: Callable[[], Any]) -> None:
    ours, upstream = make(), make()
    metadata = Metadata({"a": tensor_metadata((2,), [chunk((0,), (2,))]), "w": saved()})
    assert_same_answer(
        lambda: (
            OURS.default_planner.create_default_local_load_plan(
                {"a": torch.ones(2), "w": ours}, metadata
            ).items
        ),
        lambda: (
            originals.create_default_local_load_plan(
                {"a": torch.ones(2), "w": upstream}, metadata
            ).items
        ),
    )
    if not isinstance(ours, (Raises, OtherSize)):  # upstream is asked again for its error
        assert getattr(ours, "calls", 0) == getattr(upstream, "calls", 0)


def test_an_entry_that_is_missing_after_one_that_listed_its_chunks() -> None:
    """The missing key is upstream's error, whatever the entry before has listed."""
    metadata = Metadata({"w": tensor_metadata((8, 4), [chunk((0, 0), (8, 4))])})
    assert_same_answer(
        lambda: OURS.default_planner.create_default_local_load_plan(
            {"w": Rows(0), "missing": torch.ones(2)}, metadata
        ),
        lambda: originals.create_default_local_load_plan(
            {"w": Rows(0), "missing": torch.ones(2)}, metadata
        ),
    )


def test_size_changed_in_place_to_a_tuple() -> None:
    """Megatron sets ``md.size`` while it plans a load with a shape that differs."""
    saved = tensor_metadata((6, 4), [chunk((0, 0), (6, 4))])
    saved.size = (8, 4)
    metadata = Metadata({"w": saved})
    assert_same_answer(
        lambda: (
            OURS.default_planner.create_default_local_load_plan({"w": Rows(0, 4)}, metadata).items
        ),
        lambda: originals.create_default_local_load_plan({"w": Rows(0, 4)}, metadata).items,
    )


class Config:
    """Any object without methods of the protocol is pickled."""


class PretendsToBeATensor:
    __class__ = torch.Tensor  # type: ignore[assignment]


def test_nothing_falls_back() -> None:
    state: dict[str, Any] = {f"w{number}": Wrapper(Rows(0, 2)) for number in range(3)}
    before = dict(shardplan.fallbacks())
    with shardplan.registered():
        plan = default_planner.create_default_local_save_plan(state, True)
        metadata = Metadata({name: tensor_metadata((8, 4), row_chunks(8, 3, 4)) for name in state})
        load = default_planner.create_default_local_load_plan(state, metadata)
        objects = {"io": io.BytesIO(b"x"), "config": Config(), "class": Config, "set": {1}}
        assert len(default_planner.create_default_local_save_plan(objects, True).items) == 4
        for name, value in objects.items():
            assert len(planner_helpers._create_write_items(name, value)) == 1
    assert (len(plan.items), len(load.items)) == (6, 9)
    assert dict(shardplan.fallbacks()) == before


def test_items_are_the_objects_own() -> None:
    kept: list[WriteItem] = []

    class Keeps(Rows):
        def __create_write_items__(self, fqn: str, obj: object) -> Any:
            kept.extend(super().__create_write_items__(fqn, obj))
            return kept

    plan = shardplan.default_planner.create_default_local_save_plan({"w": Keeps(0, 2)}, True)
    assert [id(item) for item in plan.items] == [id(item) for item in kept]
