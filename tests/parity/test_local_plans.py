"""Local plans by the module's functions: keys, sizes, strictness, state dicts of every kind."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)

from parity.boxes import BROKEN_CHUNKS, chunk, row_chunks, tensor_metadata
from parity.comparison import Raised, answer, assert_same, assert_same_answer, assert_same_pickles
from parity.implementations import OURS, Implementation
from parity.samples import (
    DTENSORS,
    EVERYTHING,
    OBJECTS,
    RAISING,
    SHARDED_TENSORS,
    TENSORS,
    WORLD_SIZE,
)
from parity.worlds import rank_of
from shardplan.dcp.upstream import originals

ours = OURS.default_planner


class OwnDict(dict):  # type: ignore[type-arg]
    """A dict whose items() is overridden."""

    def items(self) -> Any:
        return [(f"own.{key}", value) for key, value in super().items()]


def check_save(state_dict: Any, is_coordinator: bool = True) -> Any:
    return assert_same_answer(
        ours.create_default_local_save_plan,
        originals.create_default_local_save_plan,
        state_dict,
        is_coordinator,
    )


def check_load(state_dict: Any, metadata: Any, *strict: Any) -> Any:
    return assert_same_answer(
        ours.create_default_local_load_plan,
        originals.create_default_local_load_plan,
        state_dict,
        metadata,
        *strict,
    )


@pytest.fixture(params=range(WORLD_SIZE), ids=lambda rank: f"rank{rank}")
def rank(request: pytest.FixtureRequest) -> Iterator[int]:
    with rank_of(request.param, WORLD_SIZE):
        yield request.param


def test_save_plan_of_everything_at_once(rank: int) -> None:
    state_dict = {name: make() for name, make in EVERYTHING.items() if name not in RAISING}
    expected = check_save(state_dict, rank == 0)
    assert len(expected.items) > len(TENSORS)
    assert_same_pickles(ours.create_default_local_save_plan(state_dict, True).items, expected.items)


def test_load_plan_of_everything_at_once(rank: int) -> None:
    state_dict = {name: make() for name, make in EVERYTHING.items() if name not in RAISING}
    saved: dict[str, Any] = {}
    for name, obj in state_dict.items():
        if isinstance(obj, torch.Tensor):
            shape = tuple(obj.size())
            chunks = row_chunks(shape[0], 3, *shape[1:]) if shape else [chunk((), ())]
            saved[name] = tensor_metadata(shape, chunks)
        else:
            saved[name] = BytesStorageMetadata()
    expected = check_load(state_dict, Metadata(saved))
    assert len(expected.items) > len(TENSORS)
    assert_same_pickles(
        ours.create_default_local_load_plan(state_dict, Metadata(saved)).items, expected.items
    )


@pytest.mark.parametrize("name", sorted(RAISING))
def test_objects_that_raise_do_so_among_others(name: str, rank: int) -> None:
    obj = EVERYTHING[name]()
    state_dict = {"before": torch.zeros(2), "it": obj, "after": torch.zeros(2)}
    check_save(state_dict)
    whole = tensor_metadata((2,), row_chunks(2, 1))
    saved = {"before": whole, "it": tensor_metadata((4,), row_chunks(4, 2)), "after": whole}
    check_load(state_dict, Metadata(saved))
    check_load(state_dict, Metadata({**saved, "it": BytesStorageMetadata()}))


@pytest.mark.parametrize(
    "state_dict",
    [
        {},
        OwnDict(a=torch.zeros(2), b=3),
        collections.OrderedDict(b=torch.zeros(2), a=3),
        collections.defaultdict(list, a=torch.zeros(2)),
        collections.UserDict(a=torch.zeros(2)),
        collections.ChainMap({"a": torch.zeros(2)}, {"b": 3}),
        None,
        [],
        [("a", torch.zeros(2))],
        "state",
        {1: torch.zeros(2), None: 3, ("a", "b"): torch.zeros(())},
        {"\ud800": torch.zeros(2), "": 3},
    ],
    ids=lambda state_dict: type(state_dict).__name__,
)
def test_state_dicts_of_any_type(state_dict: Any) -> None:
    check_save(state_dict)
    keys = list(state_dict) if isinstance(state_dict, collections.abc.Mapping) else ["a"]
    saved: dict[Any, Any] = {key: tensor_metadata((2,), row_chunks(2, 2)) for key in keys}
    check_load(state_dict, Metadata(saved))
    check_load(state_dict, Metadata({}), False)


def test_cycle_is_planned_as_bytes() -> None:
    cycle: dict[str, Any] = {"weight": torch.zeros(2)}
    cycle["itself"] = cycle
    check_save(cycle)
    check_load(cycle, Metadata({"weight": tensor_metadata((2,), row_chunks(2, 1))}), False)


def test_missing_key(implementation: Implementation) -> None:
    plan = implementation.default_planner.create_default_local_load_plan
    state_dict = {"here": torch.zeros(2), "absent": torch.zeros(2)}
    metadata = Metadata({"here": tensor_metadata((2,), row_chunks(2, 1))})
    with pytest.raises(RuntimeError, match=r"^Missing key in checkpoint state_dict: absent\.$"):
        plan(state_dict, metadata)
    assert [item.dest_index.fqn for item in plan(state_dict, metadata, False).items] == ["here"]


def test_size_mismatch(implementation: Implementation) -> None:
    with pytest.raises(ValueError) as raised:
        implementation.default_planner.create_default_local_load_plan(
            {"w": torch.zeros(3)}, Metadata({"w": tensor_metadata((2,), row_chunks(2, 1))})
        )
    assert str(raised.value) == (
        "Size mismatch between saved torch.Size([2]) and current: torch.Size([3]) for w"
    )


@pytest.mark.parametrize(
    "saved",
    [
        None,
        3,
        "metadata",
        TensorStorageMetadata,
        BytesStorageMetadata(),
        tensor_metadata((3,), row_chunks(3, 1)),
        tensor_metadata((2, 1), [chunk((0, 0), (2, 1))]),
        tensor_metadata((), [chunk((), ())]),
        tensor_metadata((2,), None),
        tensor_metadata((2,), []),
        tensor_metadata((2,), tuple(row_chunks(2, 2))),
        tensor_metadata((2,), [None]),
        tensor_metadata((2**64,), row_chunks(2, 1)),
        TensorStorageMetadata(TensorProperties(), (2,), row_chunks(2, 1)),  # type: ignore[arg-type]
        TensorStorageMetadata(TensorProperties(), [2], row_chunks(2, 1)),  # type: ignore[arg-type]
        TensorStorageMetadata(TensorProperties(), None, row_chunks(2, 1)),  # type: ignore[arg-type]
        TensorStorageMetadata(None, torch.Size([2]), row_chunks(2, 1)),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_saved_metadata_of_any_type(saved: Any, rank: int) -> None:
    objects = [
        torch.zeros(2),
        torch.nn.Parameter(torch.zeros(2)),
        TENSORS["subclass"](),
        3,
        [torch.zeros(2)],
        object(),
        OBJECTS["self-written"](),
        DTENSORS["shard"](),
        DTENSORS["sub-mesh"](),
        SHARDED_TENSORS["one shard a rank"](),
    ]
    for obj in objects:
        for strict in (True, False):
            check_load({"first": 1, "w": obj}, Metadata({"w": saved, "first": saved}), strict)


@pytest.mark.parametrize("broken", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_broken_chunk(broken: Any) -> None:
    whole = row_chunks(4, 2, 4)
    for chunks in ([broken], [broken, *whole], [*whole, broken]):
        metadata = Metadata(
            {"before": tensor_metadata((4, 4), whole), "w": tensor_metadata((4, 4), chunks)}
        )
        check_load({"before": torch.zeros(4, 4), "w": torch.zeros(4, 4)}, metadata)


@pytest.mark.parametrize(
    "metadata",
    [None, 3, Metadata(None), Metadata([]), Metadata(collections.OrderedDict()), {}],  # type: ignore[arg-type]
    ids=repr,
)
def test_metadata_of_any_type(metadata: Any) -> None:
    for state_dict in ({}, {"w": torch.zeros(2)}):
        for strict in (True, False):
            check_load(state_dict, metadata, strict)


@pytest.mark.parametrize("strict", [0, 1, None, "", "yes"])
def test_strict_of_any_type(strict: Any) -> None:
    check_load({"w": torch.zeros(2)}, Metadata({}), strict)


def test_first_error_is_raised() -> None:
    """Entries are planned in order, so the first error is raised."""
    metadata = Metadata({"small": tensor_metadata((2,), row_chunks(2, 1))})
    small, absent = torch.zeros(3), torch.zeros(2)
    first = check_load({"small": small, "absent": absent}, metadata)
    second = check_load({"absent": absent, "small": small}, metadata)
    assert isinstance(first, Raised)
    assert (first.kind, second.kind) == (ValueError, RuntimeError)


def test_size_that_is_not_a_method() -> None:
    class Sized:
        size = 3

    class SizedTensor:
        def size(self) -> torch.Size:
            return torch.Size([2])

    metadata = Metadata({"w": tensor_metadata((2,), row_chunks(2, 1))})
    for obj in (Sized(), SizedTensor()):
        check_load({"w": obj}, metadata)


def test_state_dict_that_changes_while_planned() -> None:
    """An object's own method may change the state dict; the error is upstream's, from dict."""

    class Grower:
        def __init__(self, state_dict: dict[str, Any]) -> None:
            self.state_dict = state_dict

        def __create_write_items__(self, fqn: str, object: Any) -> list[Any]:
            self.state_dict["more"] = 1
            return []

    answers = []
    for plan in (ours.create_default_local_save_plan, originals.create_default_local_save_plan):
        state_dict: dict[str, Any] = {}
        state_dict["grower"] = Grower(state_dict)
        state_dict["after"] = 2
        answers.append(answer(plan, state_dict, True))
    assert_same(*answers)
    assert isinstance(answers[0], Raised)


def test_loading_a_sharded_tensor_warns_as_upstream_does(rank: int) -> None:
    """Upstream calls size() on a ShardedTensor, which emits a deprecation warning."""
    name, make = next(iter(SHARDED_TENSORS.items()))
    obj = make()
    shape = tuple(obj.metadata().size)
    saved = Metadata({name: tensor_metadata(shape, row_chunks(shape[0], 2, *shape[1:]))})
    warned = []
    for module in (ours, originals):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            module.create_default_local_load_plan({name: obj}, saved)
        warned.append([(warning.category, str(warning.message)) for warning in seen])
    assert warned[0] == warned[1] != []
