"""``shardplan simulate``: plans a save on a mesh that need not exist."""

from __future__ import annotations

import argparse
from typing import Any

from ... import _core
from ...diagnosis.units import seconds_text
from ..checkpoint import layouts
from ..checkpoint.dtypes import NAMES, element_size
from ..checkpoint.entries import entries_of, spread
from ..checkpoint.location import open_checkpoint
from ..checkpoint.models import MODELS, Tensor, from_json, model
from ..display.terminal import Terminal, busy
from ..display.wording import bytes_text, counted
from ..failures import CommandError
from ..memory import add_memory_limit, check_memory
from .reshard import add_mesh_arguments, coordinate

HELP = "simulate the planning of a save on a mesh: balance, sizes, planning time on this machine"
EXAMPLE = "shardplan simulate --model llama3-405b --mesh 128x8 --placements 'R,S(0)'"

_COORDINATOR = ("read", "dedup", "global plan", "validation", "write")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", choices=sorted(MODELS), help="a well-known model")
    source.add_argument(
        "--from", dest="checkpoint", metavar="CKPT", help="the tensors of a checkpoint"
    )
    source.add_argument(
        "--shapes",
        metavar="FILE",
        help='JSON: {"name": [4096, 4096]} or {"name": {"shape": [...], "dtype": "bfloat16"}}',
    )
    add_mesh_arguments(parser)
    parser.add_argument(
        "--dtype", default="float32", help="dtype of --model and --shapes; default: float32"
    )
    parser.add_argument(
        "--no-adam", action="store_true", help="with --model: omit the state of Adam"
    )
    parser.add_argument(
        "--dedup",
        choices=("upstream", "bytes"),
        default="upstream",
        help="which rank writes what several have; bytes: as DefaultSavePlanner(dedup='bytes')",
    )
    add_memory_limit(parser)
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help="draw the bytes per rank and the largest tensor to a .png or .svg file",
    )


def run(options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    if element_size(options.dtype) is None:
        raise CommandError(f"unknown dtype {options.dtype!r}; known dtypes: {NAMES}")
    tensors = _tensors(options)
    if not tensors:
        raise CommandError(f"{options.checkpoint} has no tensors")
    rules = options.placements or layouts.default_rules(options.mesh)
    largest = max(
        range(len(tensors)), key=lambda at: (len(tensors[at].shape), _elements(tensors[at]))
    )
    try:
        chosen = layouts.chosen(rules, options.mesh, [tensor.name for tensor in tensors])
        if options.placements and not options.replicate_missing_dims:
            layouts.check_dims(rules, chosen, ((tensor.name, tensor.shape) for tensor in tensors))
        described = [
            (tensor.name, list(tensor.shape), tensor.dtype, tensor.element_size, rule)
            for tensor, rule in zip(tensors, chosen, strict=True)
        ]
        layouts_by_rule = [list(rule.placements) for rule in rules]
        check_memory(
            _core.simulation_memory(described, options.mesh, layouts_by_rule), options.memory_limit
        )
        with busy("planning"):
            keeper = "balanced" if options.dedup == "bytes" else "fewest bytes"
            done = _core.simulate(described, options.mesh, layouts_by_rule, largest, keeper)
    except (ValueError, RuntimeError) as error:
        raise CommandError(f"this save cannot be planned: {error}") from error
    data = _data(options, tensors, rules, done)
    if options.picture:
        _draw(options.picture, tensors[largest], done, data)
    return data, 0


def _tensors(options: argparse.Namespace) -> list[Tensor]:
    if options.model:
        return model(options.model, options.dtype, not options.no_adam)
    if options.shapes:
        return from_json(options.shapes, options.dtype)
    entries = entries_of(open_checkpoint(options.checkpoint).checkpoint)
    return [
        Tensor(entry.name, entry.shape, entry.dtype or "uint8")
        for entry in entries
        if entry.kind == "tensor"
    ]


def _elements(tensor: Tensor) -> int:
    elements = 1
    for size in tensor.shape:
        elements *= size
    return elements


def _data(
    options: argparse.Namespace, tensors: list[Tensor], rules: Any, done: Any
) -> dict[str, Any]:
    items, moved = zip(*done["ranks"], strict=True)
    stages = dict(done["stages"])
    ranks = len(items)
    most = max(range(ranks), key=lambda rank: moved[rank])
    return {
        "of": options.model or options.shapes or options.checkpoint,
        "tensors": len(tensors),
        "bytes": sum(_elements(tensor) * tensor.element_size for tensor in tensors),
        "mesh": options.mesh,
        "ranks": ranks,
        "placements": [{"names": rule.pattern, "placements": rule.text} for rule in rules],
        "items": done["items"],
        "items_written": sum(items),
        "rank_items": spread(items),
        "rank_bytes": spread(moved),
        "most": {"rank": most, "coordinate": coordinate(most, options.mesh), "bytes": moved[most]},
        "plan_bytes_in": done["wire_in"],
        "plan_bytes_out": done["wire_out"],
        "metadata_bytes": done["metadata"],
        "seconds": {
            "local_plan_of_a_rank": stages["local plans"] / ranks,
            "coordinator": sum(stages[name] for name in _COORDINATOR),
            "stages": {name: stages[name] for name in (*_COORDINATOR, "metadata file")},
        },
        "per_rank": {"items": list(items), "bytes": list(moved)},
    }


def _draw(file: str, tensor: Tensor, done: Any, data: dict[str, Any]) -> None:
    from ..display import pictures

    ndim = len(tensor.shape)
    numbers = done["boxes"]
    boxes = [
        (numbers[at : at + ndim], numbers[at + ndim : at + 2 * ndim])
        for at in range(0, len(numbers), 2 * ndim)
    ]
    title = f"bytes that each of {counted(data['ranks'], 'rank')} writes"
    panels: list[Any] = [pictures.Bars(title, data["per_rank"]["bytes"], [], "rank")]
    if ndim:
        about = f"{list(tensor.shape)}: the rank that writes each box"
        panels.append(
            pictures.Boxes(tensor.name, about, list(tensor.shape), boxes, done["writers"], "rank")
        )
    pictures.draw(file, panels)


def show(data: dict[str, Any], out: Terminal, options: argparse.Namespace) -> None:
    spread_of = data["rank_bytes"]
    balance = spread_of["most"] / spread_of["mean"] if spread_of["mean"] else 1.0
    out.facts(
        [
            (
                "of",
                f"{data['of']}: {counted(data['tensors'], 'tensor')}, {bytes_text(data['bytes'])}",
            ),
            ("mesh", f"{' x '.join(map(str, data['mesh']))}, {counted(data['ranks'], 'rank')}"),
            *(
                ("placements", f"{one['placements']} of {one['names']}")
                for one in data["placements"]
            ),
            ("items", f"{data['items']:,} planned, {data['items_written']:,} written"),
            (
                "bytes per rank",
                f"min {bytes_text(spread_of['least'])}, mean {bytes_text(spread_of['mean'])}, "
                f"max {bytes_text(spread_of['most'])} (rank {data['most']['rank']}), "
                f"{balance:.2f} x mean",
            ),
            (
                "plans",
                f"{bytes_text(data['plan_bytes_in'])} to the coordinator, "
                f"{bytes_text(data['plan_bytes_out'])} back",
            ),
            ("metadata file", f"about {bytes_text(data['metadata_bytes'])}"),
        ]
    )
    seconds = data["seconds"]
    out.heading("planning time on this machine, of columns only (no Python objects, no network)")
    rows = [("local plan of a rank", seconds_text(seconds["local_plan_of_a_rank"]))]
    rows += [
        (f"coordinator: {name}", seconds_text(taken)) for name, taken in seconds["stages"].items()
    ]
    rows.append(("coordinator, without metadata file", seconds_text(seconds["coordinator"])))
    out.table(("stage", "time"), rows)
