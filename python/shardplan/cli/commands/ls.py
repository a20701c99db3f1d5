"""``shardplan ls``: the entries of a checkpoint, one per line."""

from __future__ import annotations

import argparse
from typing import Any

from ..checkpoint.entries import entries_of, matching
from ..checkpoint.location import open_checkpoint
from ..display.terminal import Terminal
from ..display.wording import bytes_text

HELP = "list the entries, one per line: shape, dtype, bytes, sharding, name"
EXAMPLE = "shardplan ls checkpoints/step-1000 'model.layers.0.*'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a directory, or an fsspec URL")
    parser.add_argument("glob", nargs="?", help="a name, or a pattern of names such as 'model.*'")


def run(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    opened = open_checkpoint(options.checkpoint)
    entries = entries_of(opened.checkpoint)
    if options.glob is not None:
        entries = matching(entries, options.glob, opened.name)
    return {"checkpoint": opened.name, "entries": [entry.as_data() for entry in entries]}, 0


def show(data: dict[str, Any], out: Terminal, options: argparse.Namespace) -> None:
    out.table(
        ("shape", "dtype", "bytes", "sharding", "name"),
        [
            (
                str(one["shape"]) if one["kind"] == "tensor" else "-",
                (one["dtype"] or "unknown") if one["kind"] == "tensor" else one["kind"],
                bytes_text(one["bytes"]),
                one["sharding"] if one["kind"] == "tensor" else "-",
                one["name"],
            )
            for one in data["entries"]
        ],
        plain=True,
    )
