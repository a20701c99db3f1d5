"""``shardplan reshard``: the cost of loading a checkpoint on another mesh."""

from __future__ import annotations

import argparse
from typing import Any

from ..checkpoint import layouts
from ..checkpoint.dtypes import element_size
from ..checkpoint.entries import entries_of, spread
from ..checkpoint.location import open_checkpoint
from ..display.terminal import Terminal, busy
from ..display.wording import bytes_text, counted
from ..failures import CommandError
from ..memory import add_memory_limit, check_memory

HELP = "predict the reads of a load on another mesh: bytes, requests, files, the slowest rank"
EXAMPLE = "shardplan reshard checkpoints/step-1000 --mesh 96x8 --placements 'R,S(0)'"

_COLUMNS = ("wanted_bytes", "read_bytes", "requests", "files")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a directory, or an fsspec URL")
    add_mesh_arguments(parser)
    add_memory_limit(parser)
    parser.add_argument(
        "--picture", metavar="FILE", help="draw the bytes per rank to a .png or .svg file"
    )


def add_mesh_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the mesh, which ``reshard`` and ``simulate`` share."""
    parser.add_argument(
        "--mesh", type=layouts.mesh, required=True, help="shape of the mesh, such as 96x8 or 1024"
    )
    parser.add_argument(
        "--placements",
        type=layouts.rule,
        action="append",
        metavar="RULE",
        help=f"{layouts.HELP}; default: S(0) on the last mesh dim, R on the others, and R for "
        f"tensors without dims",
    )
    parser.add_argument(
        "--replicate-missing-dims",
        action="store_true",
        help="with --placements: replicate a tensor that lacks the dim to shard (a bias under "
        "S(1)) on that mesh dim, instead of failing",
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    opened = open_checkpoint(options.checkpoint)
    entries = entries_of(opened.checkpoint)
    rules = options.placements or layouts.default_rules(options.mesh)
    try:
        chosen = layouts.chosen(rules, options.mesh, [entry.name for entry in entries])
        tensors = [entry for entry in entries if entry.kind == "tensor"]
        if options.placements and not options.replicate_missing_dims:
            layouts.check_dims(
                rules,
                [chosen[entry.at] for entry in tensors],
                ((entry.name, entry.shape) for entry in tensors),
            )
        layouts_by_rule = [list(rule.placements) for rule in rules]
        check_memory(
            opened.checkpoint.reshard_memory(options.mesh, layouts_by_rule, chosen),
            options.memory_limit,
        )
        with busy("counting reads"):
            costs = opened.checkpoint.reshard(
                options.mesh,
                layouts_by_rule,
                chosen,
                [element_size(entry.dtype) or 0 for entry in entries],
            )
    except ValueError as error:
        raise CommandError(
            f"{options.checkpoint} cannot be loaded on this mesh: {error}"
        ) from error
    columns = dict(zip(_COLUMNS, zip(*costs, strict=True), strict=True))
    slowest = max(range(len(costs)), key=lambda rank: columns["read_bytes"][rank])
    wanted, read = sum(columns["wanted_bytes"]), sum(columns["read_bytes"])
    data = {
        "checkpoint": opened.name,
        "mesh": options.mesh,
        "ranks": len(costs),
        "placements": [{"names": rule.pattern, "placements": rule.text} for rule in rules],
        "replicated_for_want_of_a_dim": sum(
            layouts.missing_dim(rules[chosen[entry.at]], entry.shape) is not None
            for entry in tensors
        ),
        **{name: spread(column) for name, column in columns.items()},
        "total_wanted_bytes": wanted,
        "total_read_bytes": read,
        "amplification": read / wanted if wanted else None,
        "slowest": {
            "rank": slowest,
            "coordinate": coordinate(slowest, options.mesh),
            **{name: column[slowest] for name, column in columns.items()},
        },
        "per_rank": {name: list(column) for name, column in columns.items()},
    }
    if options.picture:
        from ..display import pictures

        title = f"bytes that each of {counted(len(costs), 'rank')} reads of {opened.name}"
        bars = pictures.Bars(title, data["per_rank"]["read_bytes"], [slowest], "rank")
        bars.beside = data["per_rank"]["wanted_bytes"]
        bars.names = ("read", "wanted", "slowest")
        pictures.draw(options.picture, [bars])
    return data, 0


def coordinate(rank: int, mesh: list[int]) -> list[int]:
    """Returns the coordinate of a rank on a mesh in row-major order."""
    found = []
    for size in reversed(mesh):
        rank, at = divmod(rank, size)
        found.append(at)
    return found[::-1]


def show(data: dict[str, Any], out: Terminal, options: argparse.Namespace) -> None:
    out.facts(
        [
            ("checkpoint", data["checkpoint"]),
            ("mesh", f"{' x '.join(map(str, data['mesh']))}, {counted(data['ranks'], 'rank')}"),
            *(
                ("placements", f"{one['placements']} of {one['names']}")
                for one in data["placements"]
            ),
        ]
    )
    if count := data["replicated_for_want_of_a_dim"]:
        lacks = "tensor lacks a dim that it" if count == 1 else "tensors lack a dim that they"
        replicate = "is replicated" if count == 1 else "are replicated"
        out.line(f"{count:,} {lacks} would be sharded by, and {replicate}")
    out.heading("per rank")
    rows = []
    for name, format_value in (
        ("wanted_bytes", bytes_text),
        ("read_bytes", bytes_text),
        ("requests", _count),
        ("files", _count),
    ):
        found, slowest = data[name], data["slowest"][name]
        rows.append(
            (
                name.replace("_", " "),
                *(format_value(found[key]) for key in ("least", "mean", "most")),
                format_value(slowest),
            )
        )
    at = data["slowest"]
    out.table(("", "min", "mean", "max", f"slowest: rank {at['rank']}"), rows)
    out.line()
    amplification = data["amplification"]
    ratio = "no bytes are wanted"
    if amplification is not None:
        ratio = f"{amplification:.2f} x the wanted bytes, because saved boxes are read in full"
    out.line(f"all ranks read {bytes_text(data['total_read_bytes'])}: {ratio}")


def _count(number: float) -> str:
    return f"{number:,.0f}"
