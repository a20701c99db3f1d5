"""Compares two implementations: the complete result, or the exception."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch

from shardplan.dcp.lazy.items import LazyList
from shardplan.dcp.lazy.path_mappings import LazyDict
from shardplan.dcp.lazy.storage_data import StorageData


@dataclasses.dataclass
class Raised:
    """An exception as a caller sees it.

    If it has a report, only the first line of its message, which is upstream's, is compared.
    """

    kind: type[BaseException]
    message: str
    cause: Raised | None

    @classmethod
    def by(cls, error: BaseException) -> Raised:
        cause = error.__cause__
        message = str(error)
        if hasattr(error, "report"):
            message = message.split("\n", 1)[0]
        return cls(type(error), message, None if cause is None else cls.by(cause))


def answer(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Returns the result of a call, or a ``Raised`` for its exception."""
    try:
        return materialized(function(*args, **kwargs))
    except Exception as error:
        return Raised.by(error)


def materialized(value: Any) -> Any:
    """Materializes the lists of items in a value, so that this is part of the call."""
    for found in lists_of_items(value):
        found[:0]
    return value


def lists_of_items(value: Any) -> Iterator[LazyList]:
    if isinstance(value, LazyList):
        yield value
    elif type(value) in (list, tuple):
        for each in value:
            yield from lists_of_items(each)
    elif dataclasses.is_dataclass(value) and hasattr(value, "items"):
        yield from lists_of_items(value.items)


def assert_same(ours: Any, upstream: Any, at: str = "answer") -> None:
    """Compares types, values, and order of attributes and keys.

    LazyList and LazyDict count as list and dict.
    """
    if isinstance(ours, LazyList) and type(upstream) is list:
        ours = list(ours)
    if isinstance(ours, (LazyDict, StorageData)) and type(upstream) is dict:
        ours = dict(ours)
    assert type(ours) is type(upstream), f"{at}: {ours!r} is not {upstream!r}"
    if isinstance(upstream, torch.Tensor):
        assert ours is upstream or torch.equal(ours, upstream), f"{at}: another tensor"
    elif isinstance(upstream, dict):
        assert list(ours) == list(upstream), f"{at}: {list(ours)} is not {list(upstream)}"
        for key, value in upstream.items():
            assert_same(ours[key], value, f"{at}[{key!r}]")
    elif isinstance(upstream, (list, tuple)):
        assert len(ours) == len(upstream), f"{at}: {ours!r} is not {upstream!r}"
        for i, (a, b) in enumerate(zip(ours, upstream, strict=True)):
            assert_same(a, b, f"{at}[{i}]")
    elif dataclasses.is_dataclass(upstream) and not isinstance(upstream, type):
        # A class with ``__setstate__`` has no attribute order of its own.
        order = sorted if hasattr(upstream, "__setstate__") else list
        assert order(vars(ours)) == order(vars(upstream)), f"{at}: attributes {vars(ours)}"
        for name, value in vars(upstream).items():
            assert_same(vars(ours)[name], value, f"{at}.{name}")
    elif isinstance(upstream, float):
        assert repr(ours) == repr(upstream), f"{at}: {ours!r} is not {upstream!r}"
    else:
        assert ours == upstream, f"{at}: {ours!r} is not {upstream!r}"


def assert_same_pickles(ours: Any, upstream: Any) -> None:
    """Compares each item byte for byte: values, order of attributes, shared objects."""
    assert len(ours) == len(upstream)
    for mine, theirs in zip(ours, upstream, strict=True):
        assert pickle.dumps(mine) == pickle.dumps(theirs), f"{mine!r} pickles otherwise"


def assert_same_answer(
    ours: Callable[..., Any], upstream: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Calls both with the same arguments and compares. Returns upstream's answer."""
    expected = answer(upstream, *args, **kwargs)
    assert_same(answer(ours, *args, **kwargs), expected)
    return expected
