"""``shardplan reshard``: the cost of loading a checkpoint on another mesh."""

from __future__ import annotations

import argparse
from typing import Any

from ...diagnosis.box_faults import slices
from ..checkpoint import layouts
from ..checkpoint.dtypes import element_size
from ..checkpoint.entries import Entry, entries_of, spread
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
    parser.add_argument(
        "--schedule",
        action="store_true",
        help="print how shardplan's reader reads the shards of one rank, part by part",
    )
    parser.add_argument(
        "--rank", type=int, metavar="N", help="with --schedule: the rank; default: the slowest"
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=20,
        help="with --schedule: number of parts to print; default: 20",
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
    element_sizes = [element_size(entry.dtype) or 0 for entry in entries]
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
            costs = opened.checkpoint.reshard(options.mesh, layouts_by_rule, chosen, element_sizes)
        columns = dict(zip(_COLUMNS, zip(*costs, strict=True), strict=True))
        slowest = max(range(len(costs)), key=lambda rank: columns["read_bytes"][rank])
        rank = slowest if options.rank is None else options.rank
        parts = None
        if options.schedule:
            if not 0 <= rank < len(costs):
                raise CommandError(f"--rank {rank}: the mesh has ranks 0 to {len(costs) - 1}")
            parts = opened.checkpoint.schedule(
                options.mesh, layouts_by_rule, chosen, element_sizes, rank
            )
    except ValueError as error:
        raise CommandError(
            f"{options.checkpoint} cannot be loaded on this mesh: {error}"
        ) from error
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
    if parts is not None:
        data["schedule"] = _schedule(rank, parts, entries)
    if options.picture:
        from ..display import pictures

        title = f"bytes that each of {counted(len(costs), 'rank')} reads of {opened.name}"
        bars = pictures.Bars(title, data["per_rank"]["read_bytes"], [slowest], "rank")
        bars.beside = data["per_rank"]["wanted_bytes"]
        bars.names = ("read", "wanted", "slowest")
        pictures.draw(options.picture, [bars])
    return data, 0


def _schedule(rank: int, parts: list[Any], entries: list[Entry]) -> dict[str, Any]:
    names = (
        "name",
        "chunk",
        "file",
        "first_byte",
        "bytes",
        "offsets",
        "sizes",
        "wanted_bytes",
        "reads",
        "read_bytes",
    )
    rows = [dict(zip(names, (entries[part[0]].name, *part[1:]), strict=True)) for part in parts]
    return {
        "rank": rank,
        **{
            name: sum(row[name] for row in rows) for name in ("wanted_bytes", "reads", "read_bytes")
        },
        "parts": rows,
    }


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
    if schedule := data.get("schedule"):
        _show_schedule(schedule, out, options.rows)
        return
    amplification = data["amplification"]
    ratio = "no bytes are wanted"
    if amplification is not None:
        ratio = f"{amplification:.2f} x the wanted bytes, because torch reads saved boxes in full"
    out.line(f"all ranks read {bytes_text(data['total_read_bytes'])}: {ratio}")


def _show_schedule(schedule: dict[str, Any], out: Terminal, rows: int) -> None:
    parts = schedule["parts"]
    out.heading(f"reads of rank {schedule['rank']}, in order")
    out.table(
        ("file", "first byte", "bytes", "of", "box", "wanted", "reads", "read"),
        [
            (
                part["file"],
                _count(part["first_byte"]),
                _count(part["bytes"]),
                part["name"],
                "object" if part["chunk"] is None else slices(part["offsets"], part["sizes"]),
                bytes_text(part["wanted_bytes"]),
                _count(part["reads"]) if part["reads"] else "with the one before",
                bytes_text(part["read_bytes"]) if part["reads"] else "",
            )
            for part in parts[:rows]
        ],
    )
    if len(parts) > rows:
        out.line(f"and {counted(len(parts) - rows, 'more part')}: --rows, or --json")
    out.line()
    out.line(
        f"rank {schedule['rank']} wants {bytes_text(schedule['wanted_bytes'])}, and shardplan's "
        f"reader reads {bytes_text(schedule['read_bytes'])} in {counted(schedule['reads'], 'read')}"
    )


def _count(number: float) -> str:
    return f"{number:,.0f}"
