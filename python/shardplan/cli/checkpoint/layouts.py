"""Meshes and placements as people write them."""

from __future__ import annotations

import argparse
import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..display.wording import counted, shortened

Placement = tuple[str, int, int]

_MAX_RANKS = 2**20
_REPLICATE = re.compile(r"r|replicate(\(\))?", re.IGNORECASE)
_SHARD = re.compile(r"s(?:hard)?\((?:dim=)?([0-9]+)\)", re.IGNORECASE)
_STRIDED = re.compile(
    r"_s(?:tridedshard)?\((?:dim=)?([0-9]+),\s*(?:sf=|split_factor=)?([0-9]+)\)", re.IGNORECASE
)
HELP = (
    "one placement a mesh dim, as DTensor prints them: 'S(0),R' or '_S(0,8),S(0)'; with a pattern "
    "before it, 'NAMES=S(1),R', for those names alone, the last that fits counts"
)


def mesh(text: str) -> list[int]:
    """``128x8`` -> ``[128, 8]``."""
    try:
        sizes = [int(size) for size in text.lower().split("x")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a mesh is written as 128x8, not {shortened(text)!r}"
        ) from None
    ranks = 1
    for size in sizes:
        ranks *= size
        if size < 1 or ranks > _MAX_RANKS:
            raise argparse.ArgumentTypeError(
                f"a mesh has 1 to {_MAX_RANKS:,} ranks, not {shortened(text)!r}"
            )
    return sizes


@dataclass(frozen=True)
class Rule:
    """How the tensors of some names lie on a mesh."""

    pattern: str
    placements: tuple[Placement, ...]
    text: str


def rule(text: str) -> Rule:
    """``layers.*.wo=S(1),R`` or ``S(0),R``."""
    pattern, _, listed = text.partition("=") if _has_pattern(text) else ("*", "", text)
    parts = re.split(r",(?![^()]*\))", listed.replace(" ", ""))
    return Rule(pattern, tuple(map(placement, parts)), listed)


def _has_pattern(text: str) -> bool:
    """Whether an equals sign stands outside parentheses."""
    return "=" in re.sub(r"\([^()]*\)", "", text)


def placement(text: str) -> Placement:
    """One placement."""
    if _REPLICATE.fullmatch(text):
        return "replicate", 0, 1
    if match := _SHARD.fullmatch(text):
        return "shard", _number(match[1], text), 1
    if (match := _STRIDED.fullmatch(text)) and match[2].strip("0"):
        return "strided_shard", _number(match[1], text), _number(match[2], text)
    raise argparse.ArgumentTypeError(
        f"a placement is R, S(dim) or _S(dim, split factor), not {shortened(text)!r}"
    )


def _number(digits: str, text: str) -> int:
    """A number of a placement, of no more digits than every int64 has."""
    if len(digits.lstrip("0")) > 18:
        raise argparse.ArgumentTypeError(
            f"the numbers of a placement are below 10^18: {shortened(text)!r}"
        )
    return int(digits)


def default_rules(shape: Sequence[int]) -> list[Rule]:
    """FSDP: shards of dim 0 over the last dim of the mesh, replicas over the others."""
    parts: list[Placement] = [("replicate", 0, 1)] * (len(shape) - 1) + [("shard", 0, 1)]
    text = ",".join("R" if kind == "replicate" else "S(0)" for kind, *_ in parts)
    return [Rule("*", tuple(parts), text)]


def chosen(rules: Sequence[Rule], mesh_shape: Sequence[int], names: Sequence[str]) -> list[int]:
    """The rule of each name: the last that fits, else that of no pattern; ValueError for none."""
    for each in rules:
        if len(each.placements) != len(mesh_shape):
            raise ValueError(
                f"the mesh has {counted(len(mesh_shape), 'dim')}, and {each.text!r} has "
                f"{counted(len(each.placements), 'placement')}"
            )
    found = []
    for name in names:
        fitting = [at for at, each in enumerate(rules) if _fits(each, name)]
        if not fitting:
            raise ValueError(f"no --placements fit {name!r}: give one without a pattern, too")
        found.append(fitting[-1])
    return found


def lacking(each: Rule, shape: Sequence[int]) -> int | None:
    """The first dim that a rule shards and a tensor of this shape does not have; None for none."""
    dims = (dim for kind, dim, _ in each.placements if kind != "replicate")
    return next((dim for dim in dims if dim >= len(shape)), None)


def check_dims(
    rules: Sequence[Rule], chosen_rules: Sequence[int], named: Iterable[tuple[str, Sequence[int]]]
) -> None:
    """ValueError where a rule shards a dim that a tensor of its does not have.

    named: the name and shape of each tensor, as many as there are chosen rules
    """
    for (name, shape), at in zip(named, chosen_rules, strict=True):
        dim = lacking(rules[at], shape)
        if dim is None:
            continue
        has = "no dim" if not shape else counted(len(shape), "dim")
        raise ValueError(
            f"{name!r} of size {list(shape)} has {has}, and {rules[at].text!r} shards dim {dim}: "
            f"give it --placements of its own, or --replicate-missing-dims"
        )


def _fits(each: Rule, name: str) -> bool:
    return each.pattern == "*" or fnmatch.fnmatchcase(name, each.pattern)
