"""Broken received plans: unpickling never raises, and the first use reports the damage."""

from __future__ import annotations

import pickle
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan

from parity.boxes import row_chunks, tensor_metadata
from parity.implementations import OURS
from parity.save_items import UNUSUAL_ITEMS
from parity.travel import packed, sent
from shardplan import _wire, build_info
from shardplan.dcp import wire

ours = OURS.default_planner
RELEASE = build_info()["shardplan"]
UNREADABLE = "plan from another rank cannot be read: it "
WORD = 2**64 - 1


def save_plan() -> SavePlan:
    planner = OURS.DefaultSavePlanner()
    state = {
        "model": {"w": torch.zeros(4, 2), "b": torch.zeros((), dtype=torch.bfloat16)},
        "list": [torch.zeros(3), 5],
        "dotted.key": 3,
    }
    planner.set_up_planner(state, None, True)
    return planner.create_local_plan()


def save_plan_with_objects() -> SavePlan:
    """Returns a plan of which two items travel as objects."""
    plan = save_plan()
    plan.items.extend(UNUSUAL_ITEMS[name]() for name in ("subclass", "bytes with bytes_io_data"))
    return plan


def load_plan() -> LoadPlan:
    metadata = Metadata({name: tensor_metadata((6,), row_chunks(6, 3)) for name in ("a.w", "a.b")})
    state = {"a.w": torch.zeros(6), "a.b": torch.zeros(6)}
    return ours.create_default_local_load_plan(state, metadata)


PLANS: dict[str, Callable[[], Any]] = {
    "save": save_plan,
    "save with objects": save_plan_with_objects,
    "load": load_plan,
}


class Sent:
    """Pickles like a plan that another version of shardplan, or a damaged network, sends."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def received(function: Callable[..., Any], *arguments: Any) -> Any:
    return pickle.loads(pickle.dumps(Sent(function, *arguments)))


def reduced(plan: Any) -> tuple[Callable[..., Any], bytes, list[Any], dict[str, Any]]:
    function, (data, objects, rest) = wire._PACKED[type(plan)](plan)
    assert function in (_wire.save_plan, _wire.load_plan)
    return function, data, objects, rest


@pytest.fixture(params=PLANS)
def plan(request: pytest.FixtureRequest) -> Any:
    return PLANS[request.param]()


def assert_broken(plan: Any, *words: str) -> None:
    """Asserts that the plan can be printed, and that every access to it raises an error."""
    assert type(plan) in (SavePlan, LoadPlan)
    assert len(plan.items) >= 1
    assert plan.items
    touches = [lambda: plan.items[0], lambda: list(plan.items), lambda: plan.items == []]
    if isinstance(plan, SavePlan):
        touches += [lambda: plan.planner_data["model.w"], lambda: list(plan.planner_data.items())]
    for touch in touches:
        with pytest.raises(ValueError) as caught:
            touch()
        message = str(caught.value)
        assert "plan from another rank cannot be read" in message
        for word in words:
            assert word in message
    assert len(plan.items) >= 1


def broken(plan: Any, data: bytes, *words: str) -> None:
    function, _, objects, rest = reduced(plan)
    assert_broken(received(function, data, objects, rest), UNREADABLE, *words)


def test_unchanged_plans_are_received(plan: Any) -> None:
    """Checks the helpers of the tests below with unchanged bytes."""
    function, data, objects, rest = reduced(plan)
    assert list(received(function, data, objects, rest).items) == list(plan.items)


def test_every_truncation(plan: Any) -> None:
    _, data, _, _ = reduced(plan)
    for length in range(len(data)):
        broken(plan, data[:length])


@pytest.mark.parametrize("more", [b"\0", b"\xff", b"x" * 1000], ids=["0", "255", "many"])
def test_extension(plan: Any, more: bytes) -> None:
    _, data, _, _ = reduced(plan)
    broken(plan, data + more, "has a table of")
    broken(plan, more + data, "is not a shardplan message")
    broken(plan, data + data, "has a table of")


def test_every_flipped_bit(plan: Any) -> None:
    function, data, objects, rest = reduced(plan)
    for at in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        plan = received(function, bytes(flipped), objects, rest)
        assert len(plan.items) >= 1
        with pytest.raises(ValueError, match=UNREADABLE):
            plan.items[0]


def test_every_swap_of_two_adjacent_bytes(plan: Any) -> None:
    function, data, objects, rest = reduced(plan)
    for at in range(len(data) - 1):
        if data[at] != data[at + 1]:
            swapped = data[:at] + data[at + 1 : at - 1 if at else None : -1] + data[at + 2 :]
            assert sorted(swapped) == sorted(data)
            with pytest.raises(ValueError, match=UNREADABLE):
                list(received(function, swapped, objects, rest).items)


def future_version(data: bytes, version: int = 7, release: bytes = b"9.8.7rc1") -> bytes:
    """Returns the bytes with the head of a future version, whose later bytes are unknown."""
    return data[:4] + bytes([version, len(release)]) + release + data[6 + data[5] :]


@pytest.mark.parametrize("version", [0, 2, 7, 255])
def test_another_wire_version_names_both_releases(plan: Any, version: int) -> None:
    _, data, _, _ = reduced(plan)
    words = (
        f"written by shardplan 9.8.7rc1 (wire version {version})",
        f"read by shardplan {RELEASE} (wire version {data[4]})",
        "install the same shardplan on every rank",
    )
    broken(plan, future_version(data, version), *words)
    broken(plan, future_version(data, version)[:20], *words)
    # Invalid text must not break the message, nor the pickling of the exception.
    broken(plan, future_version(data, version, b"\xff\n\0"), "written by shardplan ??? ")


def test_another_release_of_the_same_wire_version() -> None:
    function, data, objects, rest = reduced(save_plan())
    contents = Envelope(data)
    contents.head = future_version(contents.head, data[4])
    plan = received(function, contents.sealed(), objects, rest)
    assert list(plan.items) == list(save_plan().items)


@pytest.mark.parametrize("function", [_wire.save_plan, _wire.load_plan])
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (None,),
        (1, 2),
        (b"", []),
        (b"", [], {}, 3),
        ("text", [], {}),
        (None, [], {}),
        (bytearray(b"x"), [], {}),
        (b"", [], []),
        (b"", [], None),
        tuple(range(50)),
    ],
    ids=str,
)
def test_other_arguments(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    assert_broken(received(function, *arguments), "another version of shardplan")


@pytest.mark.parametrize("objects", [None, (), {}, "text", 3], ids=repr)
def test_objects_that_are_not_a_list(plan: Any, objects: Any) -> None:
    function, data, _, rest = reduced(plan)
    assert_broken(received(function, data, objects, rest), UNREADABLE, "has no list of items")


def test_too_many_or_too_few_objects(plan: Any) -> None:
    function, data, objects, rest = reduced(plan)
    item = objects[0] if objects else plan.items[0]
    count = len(objects)
    counts = (count + 1, count - 1, 0)
    more, fewer, none = (f"has {n} items for {count} object rows" for n in counts)
    assert_broken(received(function, data, [*objects, item], rest), UNREADABLE, more)
    if objects:
        assert_broken(received(function, data, objects[1:], rest), UNREADABLE, fewer)
        assert_broken(received(function, data, [], rest), UNREADABLE, none)


def test_the_other_kind_of_plan() -> None:
    _, saved, _, rest = reduced(save_plan())
    assert_broken(received(_wire.load_plan, saved, [], rest), "has message kind 1 instead of 2")
    _, loaded, _, _ = reduced(load_plan())
    assert_broken(received(_wire.save_plan, loaded, [], {}), "has message kind 2 instead of 1")


def test_random_bytes() -> None:
    draw = random.Random(4)
    head = reduced(save_plan())[1][: 6 + len(RELEASE)]
    for start in (b"", head[:4], head):
        for _ in range(500):
            data = start + draw.randbytes(draw.randrange(200))
            for function in (_wire.save_plan, _wire.load_plan):
                plan = received(function, data, [], {})
                assert len(plan.items) >= 1
                with pytest.raises(ValueError, match=UNREADABLE):
                    list(plan.items)


def unusable_plans() -> dict[str, Any]:
    function, data, objects, rest = reduced(save_plan())
    return {
        "cut": (function, data[:-1], objects, rest),
        "another version": (function, future_version(data), objects, rest),
        "other arguments": (function, data),
        "no list": (function, data, None, rest),
    }


@pytest.mark.parametrize("name", unusable_plans())
@pytest.mark.parametrize("lowest", [False, True])
@pytest.mark.parametrize("broken_rank", [0, 2])
def test_coordinator_names_the_rank(name: str, lowest: bool, broken_rank: int) -> None:
    plans = [sent(save_plan()) for _ in range(4)]
    plans[broken_rank] = received(*unusable_plans()[name])
    for plan_all in (
        lambda: ours.dedup_save_plans(plans, lowest),
        lambda: ours.create_default_global_save_plan(plans),
        lambda: OURS.DefaultSavePlanner().create_global_plan(plans),
    ):
        with pytest.raises(ValueError) as caught:
            plan_all()
        message = str(caught.value)
        assert message.startswith(f"rank {broken_rank}: a ")
        assert "plan from another rank cannot be read" in message
        # The error must reach the other ranks.
        assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_broken_plans_are_sent_on(plan: Any) -> None:
    """Pickling does not raise either: a coordinator may scatter a plan that it did not read."""
    function, data, objects, rest = reduced(plan)
    for arguments in ((data[:-1], objects, rest), (data, None, rest), (1,), (data, objects)):
        plan = received(function, *arguments)
        again = pickle.loads(packed(plan))
        assert len(again.items) >= 1
        with pytest.raises(ValueError, match="plan from another rank cannot be read"):
            list(again.items)


# These bytes were never sent, but their checksum is valid.


def fingerprint(data: bytes, seed: int = 0) -> int:
    first, second = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F

    def turned(value: int, by: int) -> int:
        return (value << by | value >> 64 - by) & WORD

    def mixed_with(mixed: int, word: int) -> int:
        mixed ^= turned(word * second & WORD, 31) * first & WORD
        return (turned(mixed, 27) * first + second) & WORD

    mixed, whole = (seed + len(data)) * first & WORD, len(data) // 8 * 8
    for at in range(0, whole, 8):
        mixed = mixed_with(mixed, int.from_bytes(data[at : at + 8], "little"))
    mixed = mixed_with(mixed, int.from_bytes(data[whole:], "big"))
    mixed = (mixed ^ mixed >> 33) * second & WORD
    return mixed ^ mixed >> 29


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


class Envelope:
    """The parts of an encoded plan, to be changed and sealed again."""

    def __init__(self, data: bytes) -> None:
        self.head, rest = data[: 6 + data[5]], data[6 + data[5] :]
        self.kind, at = rest[0], 1
        numbers = []
        for _ in range(3):
            number = shift = 0
            while True:
                number |= (rest[at] & 0x7F) << shift
                shift, at = shift + 7, at + 1
                if rest[at - 1] < 0x80:
                    break
            numbers.append(number)
        self.items, length, _ = numbers
        self.table, self.rows = rest[at + 8 :][:length], rest[at + 8 :][length:]

    def sealed(self) -> bytes:
        counts = varint(self.items) + varint(len(self.table)) + varint(len(self.rows))
        lengths = bytes([self.kind]) + counts
        total = fingerprint(self.head)
        for part in (lengths, self.table, self.rows):
            total = fingerprint(part, total)
        return self.head + lengths + total.to_bytes(8, "little") + self.table + self.rows


def test_seal() -> None:
    """Checks that ``sealed`` gives a valid checksum."""
    for make in PLANS.values():
        _, data, _, _ = reduced(make())
        assert Envelope(data).sealed() == data


def use_up(plan: Any) -> bool:
    """Uses a plan as ranks do, and returns whether it was readable. Every error must be clear."""
    pickle.loads(packed(plan))
    try:
        if isinstance(plan, SavePlan):
            dict(plan.planner_data.items())
        count, items = len(plan.items), list(plan.items)
    except ValueError as error:
        assert UNREADABLE in str(error)
        return False
    assert count == len(items)
    if isinstance(plan, SavePlan):
        plans = [plan, sent(save_plan())]
        for use in (ours.dedup_save_plans, ours.create_default_global_save_plan):
            try:
                made: Any = use(plans)
            except Exception as error:
                pickle.dumps(error)
            else:
                for each in made if isinstance(made, list) else made[0]:
                    list(each.items)
    return True


def changed_parts(data: bytes, count: int) -> Iterator[bytes]:
    draw = random.Random(11)
    for _ in range(count):
        envelope = Envelope(data)
        part = draw.choice(("table", "rows"))
        contents = bytearray(getattr(envelope, part))
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            at = draw.randrange(len(contents) + 1)
            change = draw.randrange(3)
            if change == 0:
                contents[at : at + 1] = bytes([draw.choice((0, 1, 2, 127, 128, 255))])
            elif change == 1:
                contents[at:at] = draw.randbytes(draw.randrange(4))
            else:
                del contents[at : at + draw.randrange(1, 4)]
        setattr(envelope, part, bytes(contents))
        envelope.items = max(0, envelope.items + draw.choice((0, 0, 0, -1, 1)))
        yield envelope.sealed()


def test_changed_bytes_with_a_valid_checksum(plan: Any) -> None:
    function, data, objects, rest = reduced(plan)
    read = [
        use_up(received(function, changed, objects, rest)) for changed in changed_parts(data, 1500)
    ]
    # Some changes only change a number; most break the plan.
    assert 0 < sum(read) < len(read) / 2


def test_absurd_counts_fail_fast_with_little_memory(plan: Any) -> None:
    function, data, objects, rest = reduced(plan)
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tried = 0
    for number in (2**14, 2**31, 2**40, 2**63, 2**64 - 1):
        envelope = Envelope(data)
        envelope.items = number
        broken(plan, envelope.sealed(), f"has {number} items in ")
        for part in ("table", "rows"):
            contents = getattr(Envelope(data), part)
            for at in range(len(contents)):
                envelope = Envelope(data)
                setattr(envelope, part, contents[:at] + varint(number) + contents[at + 1 :])
                use_up(received(function, envelope.sealed(), objects, rest))
                tried += 1
    assert tried > 100
    assert time.monotonic() - started < 30
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 64 * 2**20
