"""``shardplan inspect``: the contents of a checkpoint."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from typing import Any

from ... import _core
from ...diagnosis.box_faults import slices
from ..checkpoint.entries import Entry, entries_of, matching, owners_of, rank_of_file, spread
from ..checkpoint.location import Opened, open_checkpoint
from ..display.terminal import Terminal
from ..display.wording import bytes_text, counted, number_text
from ..failures import CommandError

HELP = "summarise a checkpoint: entries, bytes, dtypes, files, the largest tensors, sharding"
EXAMPLE = "shardplan inspect checkpoints/step-1000 --tensor model.layers.0.wq.weight"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a directory, or an fsspec URL")
    parser.add_argument(
        "--tensor",
        metavar="NAME",
        help="print the boxes of one entry, or of those that match a glob, and their locations",
    )
    parser.add_argument(
        "--top", type=int, default=10, help="number of largest tensors to print; default: 10"
    )
    parser.add_argument(
        "--rows", type=int, default=40, help="number of boxes of --tensor to print; default: 40"
    )
    parser.add_argument(
        "--picture", metavar="FILE", help="with --tensor: draw its boxes to a .png or .svg file"
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    if options.picture and not options.tensor:
        raise CommandError("--picture needs --tensor with the name of the tensor to draw")
    opened = open_checkpoint(options.checkpoint)
    entries = entries_of(opened.checkpoint)
    if options.tensor:
        found = matching(entries, options.tensor, opened.name)
        if options.picture and len(found) > 1:
            raise CommandError(
                f"--picture draws one tensor, but {options.tensor!r} matches {len(found):,}"
            )
        tensors = [_of_tensor(opened, entry) for entry in found]
        if options.picture:
            _draw(tensors[0], options.picture)
        if len(tensors) == 1:
            return tensors[0], 0
        return {"checkpoint": opened.name, "tensors": tensors}, 0
    return _of_all(opened, entries, options.top), 0


def _of_all(opened: Opened, entries: list[Entry], top: int) -> dict[str, Any]:
    tensors = [entry for entry in entries if entry.kind == "tensor"]
    dtypes: dict[str, dict[str, int]] = defaultdict(Counter)
    for entry in tensors:
        counts = dtypes[entry.dtype or "unknown"]
        counts["tensors"] += 1
        counts["elements"] += entry.elements
        counts["bytes"] += entry.bytes
    files = opened.checkpoint.files()
    ranks: Counter[int] = Counter()
    for name, _, size, _ in files:
        if (rank := rank_of_file(name)) is not None:
            ranks[rank] += size
    largest = sorted(tensors, key=lambda entry: -entry.bytes)[: max(top, 0)]
    return {
        # First, so that remarks in the file cannot override the values below.
        **dict(opened.checkpoint.remarks()),
        "checkpoint": opened.name,
        "metadata_file": opened.metadata_file,
        "metadata_bytes": opened.metadata_bytes,
        "entries": len(entries),
        "tensors": len(tensors),
        "objects": sum(entry.kind == "object" for entry in entries),
        "unknown": sum(entry.kind == "unknown" for entry in entries),
        "chunks": sum(entry.chunks for entry in tensors),
        "elements": sum(entry.elements for entry in tensors),
        "tensor_bytes": sum(entry.bytes for entry in tensors),
        "stored_bytes": sum(size for _, _, size, _ in files),
        "dtypes": {name: dict(counts) for name, counts in sorted(dtypes.items())},
        "files": spread(size for _, _, size, _ in files),
        "ranks": spread(ranks.values()),
        "sharding": dict(Counter(entry.sharding for entry in tensors).most_common()),
        "largest": [entry.as_data() for entry in largest],
        "entry_list": [entry.as_data() for entry in entries],
    }


def _of_tensor(opened: Opened, entry: Entry) -> dict[str, Any]:
    boxes = opened.checkpoint.boxes(entry.at)
    if boxes is None:
        raise CommandError(
            f"a box of {entry.name} ends beyond int64; run: shardplan verify {opened.name}"
        )
    listed = []
    for at, place in enumerate(opened.checkpoint.locations(entry.at)):
        offsets, sizes = _core.box(boxes, at) if entry.kind == "tensor" else ([], [])
        file, begin, length, transformed = place or (None, None, None, False)
        listed.append(
            {
                "offsets": offsets,
                "sizes": sizes,
                "file": file,
                "begin": begin,
                "bytes": length,
                "transformed": transformed,
            }
        )
    return {
        "checkpoint": opened.name,
        **entry.as_data(),
        "boxes": listed,
    }


def _draw(data: dict[str, Any], file: str) -> None:
    from ..display import pictures

    if not data["shape"]:
        raise CommandError(f"{data['name']} has no dims, so there is nothing to draw")
    boxes = [(box["offsets"], box["sizes"]) for box in data["boxes"]]
    owners, what = owners_of([box["file"] for box in data["boxes"]])
    about = f"{data['shape']}, {data['sharding']}"
    pictures.draw(file, [pictures.Boxes(data["name"], about, data["shape"], boxes, owners, what)])


def show(data: dict[str, Any], out: Terminal, options: argparse.Namespace) -> None:
    if options.tensor:
        for at, one in enumerate(data.get("tensors", [data])):
            if at:
                out.line()
            _show_tensor(one, out, options.rows)
        return
    facts = [("checkpoint", data["checkpoint"])]
    facts += [(key, data[key]) for key in ("version", "save_id") if key in data]
    facts += [
        ("metadata", f"{data['metadata_file']}, {bytes_text(data['metadata_bytes'])}"),
        (
            "entries",
            f"{data['entries']:,}: {counted(data['tensors'], 'tensor')}, "
            f"{counted(data['objects'], 'object')}"
            + (f", {data['unknown']:,} unknown" if data["unknown"] else ""),
        ),
        ("chunks", f"{data['chunks']:,}"),
        (
            "bytes",
            f"{bytes_text(data['tensor_bytes'])} of tensors, "
            f"{counted(data['elements'], 'element')}; "
            f"{bytes_text(data['stored_bytes'])} in files",
        ),
        ("files", _spread_text(data["files"])),
    ]
    if data["ranks"]["count"]:
        facts.append(("ranks", _spread_text(data["ranks"])))
    out.facts(facts)
    if data["dtypes"]:
        out.heading("dtypes")
        out.table(
            ("dtype", "tensors", "elements", "bytes"),
            [
                (name, f"{of['tensors']:,}", number_text(of["elements"]), bytes_text(of["bytes"]))
                for name, of in data["dtypes"].items()
            ],
        )
        out.heading("sharding")
        shown = list(data["sharding"].items())[:12]
        left = len(data["sharding"]) - len(shown)
        out.table(
            ("tensors", "sharding"),
            [(f"{count:,}", how) for how, count in shown]
            + ([("", f"and {counted(left, 'way')} more")] if left else []),
        )
    if data["largest"]:
        out.heading("largest tensors")
        out.table(
            ("bytes", "dtype", "shape", "sharding", "name"),
            [
                (
                    bytes_text(one["bytes"]),
                    one["dtype"],
                    str(one["shape"]),
                    one["sharding"],
                    one["name"],
                )
                for one in data["largest"]
            ],
        )


def _spread_text(found: dict[str, Any]) -> str:
    if not found["count"]:
        return "none"
    balance = f", max is {found['most'] / found['mean']:.2f} x mean" if found["mean"] else ""
    return (
        f"{found['count']:,}; bytes each: min {bytes_text(found['least'])}, mean "
        f"{bytes_text(found['mean'])}, max {bytes_text(found['most'])}{balance}"
    )


def _show_tensor(data: dict[str, Any], out: Terminal, rows: int) -> None:
    out.facts(
        [
            ("name", data["name"]),
            ("kind", data["kind"]),
            ("dtype", data["dtype"]),
            ("shape", str(data["shape"])),
            ("bytes", f"{bytes_text(data['bytes'])}; {bytes_text(data['stored_bytes'])} in files"),
            ("sharding", f"{data['sharding']}, {counted(data['chunks'], 'box', 'boxes')}"),
        ]
    )
    out.heading("boxes")
    shown = data["boxes"][: max(rows, 0)]
    out.table(
        ("box", "file", "first byte", "bytes"),
        [
            (
                slices(box["offsets"], box["sizes"]) if data["kind"] == "tensor" else "-",
                (box["file"] or "nowhere") + (" (transformed)" if box["transformed"] else ""),
                "" if box["begin"] is None else f"{box['begin']:,}",
                "" if box["bytes"] is None else f"{box['bytes']:,}",
            )
            for box in shown
        ],
    )
    if left := len(data["boxes"]) - len(shown):
        out.line(f"and {counted(left, 'more box', 'more boxes')}: --rows {len(data['boxes'])}")
