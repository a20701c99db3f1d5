"""``shardplan diff``: the differences between two checkpoints."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from ... import _core
from ..checkpoint.entries import Entry, entries_of
from ..checkpoint.location import Opened, open_checkpoint
from ..display.terminal import Terminal
from ..display.wording import counted, number_text
from ..failures import INSTALL, CommandError
from ..memory import add_memory_limit

HELP = "compare two checkpoints: keys, shapes, dtypes, sharding and, with --deep, values"
EXAMPLE = "shardplan diff checkpoints/step-1000 checkpoints/step-2000 --deep"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", help="a checkpoint: a directory, or an fsspec URL")
    parser.add_argument("b", help="another checkpoint")
    parser.add_argument(
        "--deep",
        action="store_true",
        help="also compare the values of shared tensors and objects, whatever their sharding; "
        "status 2 if no difference was found but some were not compared",
    )
    add_memory_limit(parser)
    parser.add_argument(
        "--rows",
        type=int,
        default=20,
        help="number of differences of each kind to print; default: 20",
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    sides = [open_checkpoint(options.a), open_checkpoint(options.b)]
    a, b = ({entry.name: entry for entry in entries_of(side.checkpoint)} for side in sides)
    shared = [name for name in a if name in b]
    data: dict[str, Any] = {
        "a": sides[0].name,
        "b": sides[1].name,
        "only_in_a": [name for name in a if name not in b],
        "only_in_b": [name for name in b if name not in a],
        "kinds": _differences(shared, a, b, lambda entry: entry.kind),
        "shapes": _differences(shared, a, b, lambda entry: list(entry.shape)),
        "dtypes": _differences(shared, a, b, lambda entry: entry.dtype),
        "sharding": [
            {"name": name, "a": a[name].sharding, "b": b[name].sharding}
            for name in shared
            if a[name].shape == b[name].shape and _is_sharded_differently(sides, a[name], b[name])
        ],
    }
    data["deep"] = options.deep
    different = {one["name"] for kind in _KINDS for one in data[kind]}
    incomplete: set[str] = set()
    if options.deep:
        pairs = [(a[name], b[name]) for name in shared if _comparable(a[name], b[name])]
        _compare_values(sides, pairs, options.memory_limit, data)
        values = data["values"] + data["objects"]
        different |= {one["name"] for one in values if _differs(one) or one["damaged"]}
        incomplete = {one["name"] for one in values if one["not_compared"]}
    data["same"] = len(shared) - len(different | incomplete)
    if different or data["only_in_a"] or data["only_in_b"]:
        return data, 1
    return data, 2 if incomplete else 0


def _comparable(a: Entry, b: Entry) -> bool:
    return (a.kind, a.shape, a.dtype) == (b.kind, b.shape, b.dtype)


def _compare_values(
    sides: list[Opened], pairs: list[tuple[Entry, Entry]], limit: int | None, data: dict[str, Any]
) -> None:
    try:
        from ..comparison import checkpoints as compare
    except ImportError as error:
        raise CommandError(f"--deep needs numpy:  {INSTALL}") from error
    known = [pair for pair in pairs if pair[0].kind in ("tensor", "object")]
    found = compare.compare(sides[0], sides[1], known, limit)
    data["values"] = [one.as_data() for one in found if one.entry.kind == "tensor"]
    data["objects"] = [one.as_data() for one in found if one.entry.kind == "object"]
    data["objects"] += [
        {
            "name": one.name,
            "differs": False,
            "not_compared": "it has an unsupported type",
            "damaged": False,
        }
        for one, _ in pairs
        if one.kind not in ("tensor", "object")
    ]


def _differs(one: dict[str, Any]) -> bool:
    return bool(one.get("differing") or one.get("differs"))


# Headings per kind of difference, in singular and plural.
_HEADINGS = {
    "kinds": ("differs in kind", "differ in kind"),
    "shapes": ("differs in shape", "differ in shape"),
    "dtypes": ("differs in dtype", "differ in dtype"),
}
_KINDS = ("kinds", "shapes", "dtypes", "sharding")


def _differences(shared: list[str], a: dict[str, Entry], b: dict[str, Entry], of: Any) -> Any:
    return [
        {"name": name, "a": of(a[name]), "b": of(b[name])}
        for name in shared
        if of(a[name]) != of(b[name])
    ]


def _is_sharded_differently(sides: list[Opened], a: Entry, b: Entry) -> bool:
    if a.sharding != b.sharding:
        return True
    if "uneven" not in a.sharding and a.sharding != "irregular":
        return False
    return bool(_boxes(sides[0], a) != _boxes(sides[1], b))


def _boxes(side: Opened, entry: Entry) -> Any:
    boxes = side.checkpoint.boxes(entry.at)
    return None if boxes is None else sorted(_core.box(boxes, at) for at in range(len(boxes)))


def show(data: dict[str, Any], out: Terminal, options: argparse.Namespace) -> None:
    rows = max(options.rows, 0)
    for side in "ab":
        names = data[f"only_in_{side}"]
        if names:
            out.heading(f"{_entries(len(names))} {_be(len(names))} only in {data[side]}:")
            for name in names[:rows]:
                out.line(f"  {name}")
            out.more(len(names) - rows)
    for kind in ("kinds", "shapes", "dtypes"):
        if data[kind]:
            out.heading(f"{_entries(len(data[kind]))} {_HEADINGS[kind][len(data[kind]) != 1]}:")
            out.table(
                ("a", "b", "name"),
                [(str(one["a"]), str(one["b"]), one["name"]) for one in data[kind][:rows]],
            )
            out.more(len(data[kind]) - rows)
    if data["sharding"]:
        tensors = len(data["sharding"])
        out.heading(f"{counted(tensors, 'tensor')} {_be(tensors)} sharded differently:")
        ways = Counter((one["a"], one["b"]) for one in data["sharding"]).most_common()
        out.table(("tensors", "a", "b"), [(f"{count:,}", a, b) for (a, b), count in ways[:rows]])
        out.more(len(ways) - rows)
    values = data.get("values", []) + data.get("objects", [])
    incomplete = [one for one in values if one["not_compared"]]
    _show_values(data, incomplete, out, rows)
    found = any(data[kind] for kind in ("only_in_a", "only_in_b", *_KINDS))
    if found or any(_differs(one) or one["damaged"] for one in values):
        out.line()
        out.bad(f"the checkpoints differ; {_entries(data['same'])} {_be(data['same'])} the same")
    elif incomplete:
        out.line()
        same = f"{_entries(data['same'])} {_be(data['same'])} the same"
        out.bad(f"no difference in what was compared; {same}")
    else:
        values_too = ", values included" if data["deep"] else ""
        out.good(f"no difference: {_entries(data['same'])}{values_too}")


def _show_values(
    data: dict[str, Any], incomplete: list[dict[str, Any]], out: Terminal, rows: int
) -> None:
    tensors = [one for one in data.get("values", []) if one["differing"]]
    if tensors:
        differ = "differs" if len(tensors) == 1 else "differ"
        out.heading(f"{counted(len(tensors), 'tensor')} {differ} in value:")
        for one in tensors[:rows]:
            out.line(f"  {one['name']}: {_value_difference(one)}")
        out.more(len(tensors) - rows)
    objects = [one for one in data.get("objects", []) if one["differs"]]
    if objects:
        differ = "differs" if len(objects) == 1 else "differ"
        out.heading(f"{counted(len(objects), 'object')} {differ} in bytes:")
        for one in objects[:rows]:
            out.line(f"  {one['name']}")
        out.more(len(objects) - rows)
    if incomplete:
        number = len(incomplete)
        out.heading(f"{_entries(number)} {'was' if number == 1 else 'were'} not compared in full:")
        for one in incomplete[:rows]:
            out.line(f"  {one['name']}: {one['not_compared']}")
        out.more(number - rows)


def _value_difference(one: dict[str, Any]) -> str:
    """Formats a result: ``12 of 4,096 elements differ, by at most 0.03; 1 is NaN in A or in B``."""
    differ, largest = one["differing"], one["largest_difference"]
    verb = "differs" if differ == 1 else "differ"
    text = f"{number_text(differ)} of {counted(one['compared'], 'element')} {verb}"
    plain = differ - one["nan"] - one["infinite"]
    if largest == 0:
        text += ", only in its bytes" if plain == 1 else ", only in their bytes"
    elif largest is not None:
        size = number_text(largest) if isinstance(largest, int) else f"{largest:.6g}"
        text += f", by {'' if plain == 1 else 'at most '}{size}"
    for count, what in ((one["nan"], "NaN"), (one["infinite"], "infinite")):
        if count:
            text += f"; {number_text(count)} {_be(count)} {what} in A or in B"
    return text


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _entries(count: int) -> str:
    return counted(count, "entry", "entries")
