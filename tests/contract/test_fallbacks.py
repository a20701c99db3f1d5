"""Each fallback to upstream's code is counted by reason, and each reason is logged once."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata
from torch.distributed.checkpoint.planner import SavePlan

import shardplan
from parity.implementations import OURS
from shardplan.dcp import fallbacks, wire
from shardplan.dcp.storage import metadata_file


@pytest.fixture(autouse=True)
def counted_from_zero() -> Iterator[None]:
    fallbacks.clear()
    yield
    fallbacks.clear()


class Unusual(torch.Tensor):
    """A tensor subclass, which upstream's code plans."""


def save_plan(**entries: Any) -> SavePlan:
    plan: SavePlan = OURS.default_planner.create_default_local_save_plan(entries, True)
    return plan


def test_a_state_dict_that_native_code_plans_counts_nothing(tmp_path: Path) -> None:
    state_dict = {"w": torch.ones(3, 4), "n": 3, "nested": {"b": torch.ones(())}}
    dcp.save(
        state_dict,
        storage_writer=shardplan.FileSystemWriter(tmp_path / "c"),
        planner=shardplan.DefaultSavePlanner(),
        no_dist=True,
    )
    dcp.load(
        state_dict,
        storage_reader=shardplan.FileSystemReader(tmp_path / "c"),
        planner=shardplan.DefaultLoadPlanner(),
        no_dist=True,
    )
    assert shardplan.fallbacks() == {}


def entry_of_a_subclass() -> None:
    save_plan(w=torch.ones(2).as_subclass(Unusual))


def entry_of_a_layout() -> None:
    save_plan(w=torch.eye(2).to_sparse())


def state_dict_of_another_class() -> None:
    OURS.default_planner.create_default_local_save_plan(_Mapping({"w": torch.ones(2)}), True)


class _Mapping:
    def __init__(self, entries: dict[str, Any]) -> None:
        self._entries = entries

    def items(self) -> Any:
        return self._entries.items()


def chunk_indices_that_are_kept() -> None:
    OURS.default_planner.create_default_global_save_plan(
        [save_plan(w=torch.ones(2))], rewrite_index_hints=False
    )


def dedup_of_an_unreadable_item() -> None:
    plan = save_plan(w=torch.ones(2))
    item = plan.items[0]
    index = dataclasses.replace(item.index, fqn=_Text("w"))
    unusual = dataclasses.replace(plan, items=[dataclasses.replace(item, index=index)])
    OURS.default_planner.dedup_save_plans([unusual, unusual])


class _Text(str):
    """A name whose class is not exactly str."""


def metadata_of_a_subclass(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as stream:
        metadata_file.dump(_Own({}), stream)


@dataclasses.dataclass
class _Own(Metadata):
    """A caller's own Metadata."""


FALLBACKS: list[tuple[Callable[..., None], str, int]] = [
    (entry_of_a_subclass, "local save plan: an entry is a contract.test_fallbacks.Unusual", 20),
    (
        entry_of_a_layout,
        "local save plan: an entry is a torch.Tensor of layout torch.sparse_coo",
        20,
    ),
    (state_dict_of_another_class, "local save plan: the state dict is a _Mapping", 30),
    (chunk_indices_that_are_kept, "global save plan: rewrite_index_hints=False", 30),
    (dedup_of_an_unreadable_item, "dedup: the key, kind or box of an item cannot be read", 30),
]


@pytest.mark.parametrize(
    ("run", "reason", "level"), FALLBACKS, ids=[r.__name__ for r, *_ in FALLBACKS]
)
def test_a_fallback_is_counted_and_logged_once(
    run: Callable[[], None], reason: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="shardplan.fallbacks")
    run()
    run()
    assert shardplan.fallbacks() == {reason: 2}
    logged = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert logged == [(level, f"fallback to upstream's code: {reason}")]


def test_a_metadata_file_written_by_pickle_is_counted(tmp_path: Path) -> None:
    metadata_of_a_subclass(tmp_path)
    reason = "metadata file: native code cannot read the metadata to write"
    assert shardplan.fallbacks() == {reason: 1}


def test_an_error_is_not_a_fallback() -> None:
    """Upstream's code generates the message of the error; it planned nothing."""
    metadata = Metadata({})
    with pytest.raises(RuntimeError, match="Missing key"):
        OURS.default_planner.create_default_local_load_plan({"w": torch.ones(2)}, metadata)
    assert shardplan.fallbacks() == {}


def test_a_plan_that_cannot_be_encoded_is_counted() -> None:
    class Broken(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            raise KeyError("broken")

    wire._PACKED[SavePlan](SavePlan(Broken([1])))
    assert list(shardplan.fallbacks()) == ["wire: encoding a SavePlan raised an exception"]


def test_an_item_that_travels_as_an_object_is_counted() -> None:
    plan = save_plan(a=torch.ones(2), b=torch.ones(2))
    plan.items[1].tensor_data.properties.dtype = "mine"
    wire._PACKED[SavePlan](plan)
    assert shardplan.fallbacks() == {"wire: an item of a save plan is sent as an object": 1}


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        ("_check_box_overlap", "overlap of two boxes: a chunk cannot be read"),
        ("_check_box_bounds", "bounds of a box: a chunk or size cannot be read"),
    ],
)
def test_an_unreadable_box_is_counted(check: str, reason: str) -> None:
    box = ChunkStorageMetadata(torch.Size([2**63 - 1]), [2**70])  # type: ignore[arg-type]
    first = torch.Size([4]) if check == "_check_box_bounds" else box
    getattr(OURS.default_planner, check)(first, box)
    assert shardplan.fallbacks() == {reason: 1}


def test_the_counts_are_a_copy() -> None:
    entry_of_a_subclass()
    shardplan.fallbacks().clear()
    assert len(shardplan.fallbacks()) == 1


# A future torch may add a field to TensorProperties, before shardplan is imported.
NEW_FIELD = """
    import dataclasses
    import torch
    from torch.distributed.checkpoint import metadata as m

    P = m.TensorProperties
    P.__annotations__["alignment"] = object
    P.alignment = None
    P.dtype = dataclasses.field(default_factory=torch.get_default_dtype)
    del P.__init__, P.__repr__, P.__eq__
    dataclasses.dataclass(P)
    create, getstate, setstate = P.create_from_tensor, P.__getstate__, P.__setstate__

    def create_from_tensor(tensor):
        made = create(tensor)
        made.alignment = VALUE
        return made

    def set_state(self, state):
        setstate(self, state[:-1])
        self.alignment = state[-1]

    create_from_tensor.__module__ = P.__module__
    P.create_from_tensor = staticmethod(create_from_tensor)
    P.__getstate__ = lambda self: (*getstate(self), self.alignment)
    P.__setstate__ = set_state
"""
PLANNED = """
    import pickle, sys, tempfile, warnings
    warnings.simplefilter("ignore")
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.tensor import Shard
    import shardplan
    from parity.comparison import assert_same
    from parity.implementations import OURS, UPSTREAM
    from parity.worlds import dtensor_of, mesh_of, rank_of, sharded_tensor_of
    from shardplan.dcp.lazy.items import LazyList
    from shardplan.dcp.native import native
    from shardplan.dcp import wire
    import io

    def state_dict():
        return {
            "a": torch.arange(6.0).reshape(2, 3),
            "b": torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True),
            "d": dtensor_of((4, 2), mesh_of((2,)), [Shard(0)], requires_grad=True),
            "s": sharded_tensor_of((4,), [((0,), (2,), 0), ((2,), (2,), 1)]),
            "n": 3,
        }

    def travelled(plan):
        buffer = io.BytesIO()
        wire.Pickler(buffer).dump(plan)
        return pickle.loads(buffer.getvalue())

    with rank_of(0, 2):
        ours = OURS.default_planner.create_default_local_save_plan(state_dict(), True)
        assert type(ours.items) is LazyList and ours.items.columns is not None
        upstream = UPSTREAM.default_planner.create_default_local_save_plan(state_dict(), True)
        assert_same(travelled(ours), upstream)
        assert_same(ours, upstream)
        assert ours.items[0].tensor_data.properties.alignment == 64
        of_ours = OURS.default_planner.create_default_global_save_plan([ours])[1]
        of_upstream = UPSTREAM.default_planner.create_default_global_save_plan([upstream])[1]
        assert_same(of_ours, of_upstream)
        assert_same(travelled(of_ours), of_upstream)
        load = OURS.default_planner.create_default_local_load_plan(state_dict(), of_ours)
        assert_same(
            load, UPSTREAM.default_planner.create_default_local_load_plan(state_dict(), of_ours)
        )
    folder = tempfile.mkdtemp(dir=sys.argv[1])
    plain = {"a": torch.arange(6.0), "n": 3}
    for name, arguments in (
        ("upstream", {}),
        ("ours", {"planner": shardplan.DefaultSavePlanner()}),
    ):
        writer = dcp.FileSystemWriter if name == "upstream" else shardplan.FileSystemWriter
        dcp.save(plain, storage_writer=writer(f"{folder}/{name}"), no_dist=True, **arguments)
    files = {}
    for name in ("upstream", "ours"):
        files[name] = dcp.FileSystemReader(f"{folder}/{name}").read_metadata()
        files[name].storage_meta = None
    assert_same(files["ours"], files["upstream"])
    assert not shardplan.fallbacks(), shardplan.fallbacks()
    print("planned natively")
"""


@pytest.mark.parametrize(
    "value",
    ["64", "64.0", "_Number(64)", "_List([tensor.dtype])"],
    ids=["int", "float", "object", "mutable"],
)
def test_an_unknown_field_of_tensor_properties(tmp_path: Path, value: str) -> None:
    values = textwrap.dedent("""
        class _Number:
            def __init__(self, number): self.number = number
            def __eq__(self, other): return getattr(other, "number", other) == self.number
            def __hash__(self): return hash(self.number)
        class _List(list):
            def __eq__(self, other): return other == 64 or list.__eq__(self, other)
            __hash__ = None
        import sys, types
        module = types.ModuleType("values")
        for one in (_Number, _List):
            one.__module__ = "values"
            setattr(module, one.__name__, one)
        sys.modules["values"] = module
    """)
    code = values + textwrap.dedent(NEW_FIELD).replace("VALUE", value) + textwrap.dedent(PLANNED)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("planned natively")


def test_import_changes_nothing(tmp_path: Path) -> None:
    """copyreg, torch's classes and its pickler stay the same until something is planned."""
    code = textwrap.dedent("""
        import copyreg, torch.distributed as dist, torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint import metadata, planner, filesystem, default_planner
        classes = [v for m in (metadata, planner, filesystem, default_planner)
                   for v in vars(m).values() if isinstance(v, type)]
        def state():
            return dict(copyreg.dispatch_table), [dict(vars(c)) for c in classes], vars(
                dist.distributed_c10d).get("_pickler")
        before = state()
        import shardplan, shardplan.default_planner, shardplan.filesystem
        import shardplan.dcp.registration
        shardplan.FsspecReader, shardplan.register
        assert state() == before
        with shardplan.registered():
            assert state() != before
        assert state() == before
        print("unchanged")
    """)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "unchanged", done.stderr[-2000:]
