"""Random state dicts: what a round saves, and the targets that it loads into."""

from __future__ import annotations

import dataclasses
import io
import random
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from .layouts import Pieces, part, spread
from .tensors import (
    CONTIGUOUS,
    DTYPES,
    FORMS,
    SAFETENSORS_DTYPES,
    a_shape,
    bits,
    memory_of,
    random_bits,
)

OBJECTS: tuple[Any, ...] = (
    3,
    2.5,
    "text",
    None,
    True,
    (1, "a", None),
    {1, 2},
    b"\x00\xff",
    {},
    [],
    torch.float16,
    {"nested": [1, {"deep": "text"}]},
)
_GROUPS = ((), ("model",), ("optim", "state"), ("list",), ("tree", 5, "dotted.key"))


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of a state dict, as every rank knows it.

    ``kind`` is ``shared``, for a tensor that the ranks share in some way, ``own``, for a tensor
    that each rank has under another name, ``again``, for another name of the tensor before it,
    ``object``, or ``stream``.
    """

    path: tuple[Any, ...]
    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    seed: int

    def values(self, rank: int = 0) -> torch.Tensor:
        return random_bits(self.shape, self.dtype, self.seed + rank)


@dataclasses.dataclass
class State:
    """A state dict of one rank, with the parts of its tensors by key."""

    state_dict: dict[Any, Any]
    pieces: dict[tuple[Any, ...], Pieces]

    def memory(self) -> dict[tuple[Any, ...], list[torch.Tensor]]:
        return {
            key: [memory_of(tensor) for _, tensor in found] for key, found in self.pieces.items()
        }

    def objects(self) -> list[str]:
        """Describes all values but tensors with their paths, in the order of the state dict.

        A load adds entries under keys that are no strings as new keys, in the order of its reads.
        """
        return [
            f"{path}: {value.getvalue() if isinstance(value, io.BytesIO) else value!r}"
            for path, value in _leaves(self.state_dict, "")
            if not isinstance(value, torch.Tensor)
        ]


class Model:
    """The entries of a checkpoint. ``seed`` decides all of them."""

    def __init__(self, seed: int, safetensors: bool = False) -> None:
        draw = random.Random(f"model {seed}")
        self.seed = seed
        self.forms = CONTIGUOUS if safetensors else FORMS
        self.flatten = safetensors or draw.random() < 0.85
        self.entries: list[Entry] = []
        kinds = ("shared",) * 12 + (() if safetensors else ("own", "again", "object", "stream"))
        dtypes = SAFETENSORS_DTYPES if safetensors else draw.sample(DTYPES, draw.randint(1, 6))
        for at in range(draw.randint(1, 24)):
            kind = draw.choice(kinds)
            group: tuple[Any, ...] = draw.choice(_GROUPS) if self.flatten else ()
            before = self.entries[-1] if self.entries else None
            if kind == "again" and (before is None or before.kind not in ("shared", "again")):
                kind = "shared"
            if kind == "own" and group == ("list",):
                group = ("model",)
            shape = a_shape(draw)
            if safetensors:
                shape = tuple(max(length, 1) for length in shape) or (3,)
            dtype, number = draw.choice(dtypes), draw.randrange(1 << 30)
            if kind == "again" and before is not None:
                shape, dtype, number = before.shape, before.dtype, before.seed
            self.entries.append(Entry((*group, f"entry {at}"), kind, shape, dtype, number))

    def to_save(self, kinds: str) -> State:
        """Returns what this rank saves."""
        draw = random.Random(f"save {self.seed}")
        rank = dist.get_rank()
        made = State({}, {})
        last: tuple[Any, Pieces] = (None, [])
        for entry in self.entries:
            path, value = entry.path, None
            if entry.kind == "object":
                value = OBJECTS[entry.seed % len(OBJECTS)]
            elif entry.kind == "stream":
                value = io.BytesIO(str(entry.seed).encode())
            elif entry.kind == "own":
                path = (*path[:-1], f"{path[-1]} of {rank}")
                last = spread(draw, entry.values(rank), "P")
            elif entry.kind == "shared":
                last = spread(draw, entry.values(), kinds, self.forms)
            if entry.kind in ("own", "shared", "again"):
                value, made.pieces[path] = last
            _put(made.state_dict, path, value)
        return made

    def to_load(self, request: Request, savers: int) -> tuple[State, dict[Any, list[torch.Tensor]]]:
        """Returns targets of other values, and the values that a load must give, where known."""
        draw = random.Random(f"load {self.seed}")
        rank = dist.get_rank()
        made = State({}, {})
        expected: dict[Any, list[torch.Tensor]] = {}
        last: tuple[Any, Pieces] = (None, [])
        of: Any = None
        for at, entry in enumerate(self.entries):
            path, value, saved_by = entry.path, None, 0
            is_wanted = draw.random() < request.share or path[0] == "list"
            other = draw.choice((torch.float32, torch.bfloat16, torch.float64, torch.int64))
            converts = draw.random() < request.converted
            aliases = draw.random() < 0.05
            if entry.kind == "own":
                saved_by = rank % savers
                path = (*path[:-1], f"{path[-1]} of {saved_by}")
            if entry.kind in ("own", "shared", "again"):
                dtype = other if converts else entry.dtype
                blank = random_bits(entry.shape, dtype, seed=at)
                found = spread(draw, blank, "P" if entry.kind == "own" else request.kinds)
                # Two names of the same memory get what upstream reads last.
                aliases = aliases and of == (entry.shape, dtype)
                last, of = last if aliases else found, (entry.shape, dtype)
                if not is_wanted:
                    continue
                value, made.pieces[path] = last
                if dtype == entry.dtype and not aliases:
                    full = entry.values(saved_by)
                    expected[path] = [part(full, box) for box, _ in last[1]]
                elif aliases:
                    for key in [k for k, v in made.pieces.items() if v is last[1]]:
                        expected.pop(key, None)
            elif not is_wanted:
                continue
            elif entry.kind == "object":
                value = _emptied(OBJECTS[entry.seed % len(OBJECTS)])
            _put(made.state_dict, path, value)
        return made, expected


@dataclasses.dataclass(frozen=True)
class Request:
    """What a load asks for.

    Args:
        kinds: see ``spread``.
        share: the probability of each entry.
        converted: the probability that the target of an entry has another dtype.
    """

    kinds: str = "DDSP"
    share: float = 1.0
    converted: float = 0.0


def same_values(found: torch.Tensor, expected: torch.Tensor) -> bool:
    same_kind = found.dtype == expected.dtype and found.shape == expected.shape
    return same_kind and torch.equal(bits(found), bits(expected))


def _put(state_dict: dict[Any, Any], path: tuple[Any, ...], value: Any) -> None:
    if path[0] == "list":
        state_dict.setdefault("list", []).append(value)
        return
    inner = state_dict
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = value


def _emptied(value: Any) -> Any:
    if type(value) is list:
        return [_emptied(each) for each in value]
    return {key: _emptied(each) for key, each in value.items()} if type(value) is dict else None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, (dict, list)) or not value:
        yield path, value
        return
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(each, f"{path}[{key!r}]")
