"""Parses meshes and placements of the command line."""

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
    "one placement per mesh dim, as DTensor prints them: 'S(0),R' or '_S(0,8),S(0)'; "
    "'PATTERN=S(1),R' applies only to names that match the pattern; the last matching rule applies"
)


def mesh(text: str) -> list[int]:
    """Parses a mesh shape: ``128x8`` -> ``[128, 8]``."""
    try:
        sizes = [int(size) for size in text.lower().split("x")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a mesh such as 128x8, got {shortened(text)!r}"
        ) from None
    ranks = 1
    for size in sizes:
        ranks *= size
        if size < 1 or ranks > _MAX_RANKS:
            raise argparse.ArgumentTypeError(
                f"expected a mesh of 1 to {_MAX_RANKS:,} ranks, got {shortened(text)!r}"
            )
    return sizes


@dataclass(frozen=True)
class Rule:
    """Placements of the tensors whose names match a pattern.

    Attributes:
        pattern: a glob.
        placements: one placement per mesh dim: (kind, dim, split factor).
        text: the placements as written on the command line.
    """

    pattern: str
    placements: tuple[Placement, ...]
    text: str


def rule(text: str) -> Rule:
    """Parses a rule: ``layers.*.wo=S(1),R`` or ``S(0),R``."""
    pattern, _, listed = text.partition("=") if _has_pattern(text) else ("*", "", text)
    parts = re.split(r",(?![^()]*\))", listed.replace(" ", ""))
    return Rule(pattern, tuple(map(placement, parts)), listed)


def _has_pattern(text: str) -> bool:
    """Returns whether a rule has an equals sign outside parentheses."""
    return "=" in re.sub(r"\([^()]*\)", "", text)


def placement(text: str) -> Placement:
    """Parses one placement."""
    if _REPLICATE.fullmatch(text):
        return "replicate", 0, 1
    if match := _SHARD.fullmatch(text):
        return "shard", _number(match[1], text), 1
    if (match := _STRIDED.fullmatch(text)) and match[2].strip("0"):
        return "strided_shard", _number(match[1], text), _number(match[2], text)
    raise argparse.ArgumentTypeError(
        f"expected a placement R, S(dim) or _S(dim, split factor), got {shortened(text)!r}"
    )


def _number(digits: str, text: str) -> int:
    """Parses a number of a placement, which must be below 10^18."""
    if len(digits.lstrip("0")) > 18:
        raise argparse.ArgumentTypeError(
            f"expected numbers below 10^18 in a placement, got {shortened(text)!r}"
        )
    return int(digits)


def default_rules(shape: Sequence[int]) -> list[Rule]:
    """Returns the default rule: Shard(0) on the last mesh dim, Replicate on the others (FSDP)."""
    parts: list[Placement] = [("replicate", 0, 1)] * (len(shape) - 1) + [("shard", 0, 1)]
    text = ",".join("R" if kind == "replicate" else "S(0)" for kind, *_ in parts)
    return [Rule("*", tuple(parts), text)]


def chosen(rules: Sequence[Rule], mesh_shape: Sequence[int], names: Sequence[str]) -> list[int]:
    """Returns the index of the rule for each name, which is the last one that matches.

    Args:
        rules: the rules.
        mesh_shape: the shape of the mesh.
        names: the names of the tensors.

    Raises:
        ValueError: no rule matches a name, or a rule does not have one placement per mesh dim.
    """
    for each in rules:
        if len(each.placements) != len(mesh_shape):
            raise ValueError(
                f"the mesh has {counted(len(mesh_shape), 'dim')}, and {each.text!r} has "
                f"{counted(len(each.placements), 'placement')}"
            )
    found = []
    for name in names:
        matching = [at for at, each in enumerate(rules) if _matches(each, name)]
        if not matching:
            raise ValueError(f"no --placements match {name!r}: add one without a pattern")
        found.append(matching[-1])
    return found


def missing_dim(each: Rule, shape: Sequence[int]) -> int | None:
    """Returns the first dim that a rule shards but a tensor of this shape lacks; None if none."""
    dims = (dim for kind, dim, _ in each.placements if kind != "replicate")
    return next((dim for dim in dims if dim >= len(shape)), None)


def check_dims(
    rules: Sequence[Rule], chosen_rules: Sequence[int], named: Iterable[tuple[str, Sequence[int]]]
) -> None:
    """Checks that every tensor has the dims that its rule shards.

    Args:
        rules: the rules.
        chosen_rules: the index of the rule of each tensor.
        named: the name and shape of each tensor.

    Raises:
        ValueError: a tensor lacks a dim.
    """
    for (name, shape), at in zip(named, chosen_rules, strict=True):
        dim = missing_dim(rules[at], shape)
        if dim is None:
            continue
        has = "no dim" if not shape else counted(len(shape), "dim")
        raise ValueError(
            f"{name!r} of size {list(shape)} has {has}, and {rules[at].text!r} shards dim {dim}: "
            f"add --placements for it, or --replicate-missing-dims"
        )


def _matches(each: Rule, name: str) -> bool:
    return each.pattern == "*" or fnmatch.fnmatchcase(name, each.pattern)
