"""``shardplan diff``: what two checkpoints do not have in common."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from ... import _core
from ..checkpoint.entries import Entry, entries_of
from ..checkpoint.location import Opened, open_checkpoint
from ..display.terminal import Terminal
from ..display.wording import counted

HELP = "what differs between two checkpoints: keys, shapes, dtypes, sharding; no tensor is read"
EXAMPLE = "shardplan diff checkpoints/step-1000 checkpoints/step-2000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", help="a checkpoint: a directory, or an fsspec URL")
    parser.add_argument("b", help="another")
    parser.add_argument("--rows", type=int, default=20, help="how many of each kind to print")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    sides = [open_checkpoint(options.a), open_checkpoint(options.b)]
    a, b = ({entry.name: entry for entry in entries_of(side.checkpoint)} for side in sides)
    shared = [name for name in a if name in b]
    data: dict[str, Any] = {
        "a": sides[0].name,
        "b": sides[1].name,
        "only_in_a": [name for name in a if name not in b],
        "only_in_b": [name for name in b if name not in a],
        "kinds": _differing(shared, a, b, lambda entry: entry.kind),
        "shapes": _differing(shared, a, b, lambda entry: list(entry.shape)),
        "dtypes": _differing(shared, a, b, lambda entry: entry.dtype),
        "sharding": [
            {"name": name, "a": a[name].sharding, "b": b[name].sharding}
            for name in shared
            if a[name].shape == b[name].shape and _laid_out_otherwise(sides, a[name], b[name])
        ],
    }
    different = {one["name"] for kind in _KINDS for one in data[kind]}
    data["same"] = len(shared) - len(different)
    found = bool(different or data["only_in_a"] or data["only_in_b"])
    return data, 1 if found else 0


# What is said of entries that differ so.
_SAID = {
    "kinds": ("is of another kind", "are of other kinds"),
    "shapes": ("has another shape", "have other shapes"),
    "dtypes": ("has another dtype", "have other dtypes"),
}
_KINDS = ("kinds", "shapes", "dtypes", "sharding")


def _differing(shared: list[str], a: dict[str, Entry], b: dict[str, Entry], of: Any) -> Any:
    return [
        {"name": name, "a": of(a[name]), "b": of(b[name])}
        for name in shared
        if of(a[name]) != of(b[name])
    ]


def _laid_out_otherwise(sides: list[Opened], a: Entry, b: Entry) -> bool:
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
            out.heading(f"{_entries(len(data[kind]))} {_SAID[kind][len(data[kind]) != 1]}:")
            out.table(
                ("a", "b", "name"),
                [(str(one["a"]), str(one["b"]), one["name"]) for one in data[kind][:rows]],
            )
            out.more(len(data[kind]) - rows)
    if data["sharding"]:
        tensors = len(data["sharding"])
        out.heading(f"{counted(tensors, 'tensor')} {_be(tensors)} sharded otherwise:")
        ways = Counter((one["a"], one["b"]) for one in data["sharding"]).most_common()
        out.table(("tensors", "a", "b"), [(f"{count:,}", a, b) for (a, b), count in ways[:rows]])
        out.more(len(ways) - rows)
    if any(data[kind] for kind in ("only_in_a", "only_in_b", *_KINDS)):
        out.line()
        out.bad(f"they differ; {_entries(data['same'])} {_be(data['same'])} the same")
    else:
        out.good(f"no difference: {_entries(data['same'])}")


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _entries(count: int) -> str:
    return counted(count, "entry", "entries")
