"""Names and shapes of the parameters of well-known models, or of a model in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..display.wording import shortened
from ..failures import CommandError
from .dtypes import NAMES, element_size


@dataclass(frozen=True)
class Tensor:
    """A tensor of a model.

    Attributes:
        name: name of the tensor.
        shape: shape of the tensor.
        dtype: torch's name of the dtype, such as "bfloat16".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def element_size(self) -> int:
        return element_size(self.dtype) or 1


Shapes = Iterator[tuple[str, tuple[int, ...]]]


def llama(dim: int, layers: int, hidden: int, kv: int = 1024, vocabulary: int = 128_256) -> Shapes:
    """Yields the parameters of Llama 3, with torchtitan's names."""
    yield "tok_embeddings.weight", (vocabulary, dim)
    for layer in range(layers):
        at = f"layers.{layer}"
        yield f"{at}.attention.wq.weight", (dim, dim)
        yield f"{at}.attention.wk.weight", (kv, dim)
        yield f"{at}.attention.wv.weight", (kv, dim)
        yield f"{at}.attention.wo.weight", (dim, dim)
        yield f"{at}.feed_forward.w1.weight", (hidden, dim)
        yield f"{at}.feed_forward.w2.weight", (dim, hidden)
        yield f"{at}.feed_forward.w3.weight", (hidden, dim)
        yield f"{at}.attention_norm.weight", (dim,)
        yield f"{at}.ffn_norm.weight", (dim,)
    yield "norm.weight", (dim,)
    yield "output.weight", (vocabulary, dim)


def _deepseek_v3(experts: int = 256) -> Shapes:
    dim, hidden, expert_hidden, vocabulary = 7168, 18_432, 2048, 129_280
    yield "embed.weight", (vocabulary, dim)
    for layer in range(61):
        at = f"layers.{layer}"
        yield f"{at}.attn.wq_a.weight", (1536, dim)
        yield f"{at}.attn.q_norm.weight", (1536,)
        yield f"{at}.attn.wq_b.weight", (128 * 192, 1536)
        yield f"{at}.attn.wkv_a.weight", (512 + 64, dim)
        yield f"{at}.attn.kv_norm.weight", (512,)
        yield f"{at}.attn.wkv_b.weight", (128 * 256, 512)
        yield f"{at}.attn.wo.weight", (dim, 128 * 128)
        yield f"{at}.attn_norm.weight", (dim,)
        yield f"{at}.ffn_norm.weight", (dim,)
        if layer < 3:
            yield from _ffn(f"{at}.ffn", dim, hidden)
            continue
        yield f"{at}.ffn.gate.weight", (experts, dim)
        yield from _ffn(f"{at}.ffn.shared_experts", dim, expert_hidden)
        for expert in range(experts):
            yield from _ffn(f"{at}.ffn.experts.{expert}", dim, expert_hidden)
    yield "norm.weight", (dim,)
    yield "head.weight", (vocabulary, dim)


def _ffn(at: str, dim: int, hidden: int) -> Shapes:
    yield f"{at}.w1.weight", (hidden, dim)
    yield f"{at}.w2.weight", (dim, hidden)
    yield f"{at}.w3.weight", (hidden, dim)


MODELS: dict[str, Callable[[], Shapes]] = {
    "llama3-8b": lambda: llama(4096, 32, 14_336),
    "llama3-70b": lambda: llama(8192, 80, 28_672),
    "llama3-405b": lambda: llama(16_384, 126, 53_248),
    "deepseek-v3": _deepseek_v3,
}


def model(name: str, dtype: str, adam: bool) -> list[Tensor]:
    """Returns the parameters of a model and, if ``adam``, the two Adam moments of each."""
    shapes = list(MODELS[name]())
    tensors = [Tensor(f"model.{each}", shape, dtype) for each, shape in shapes]
    if adam:
        tensors += [
            Tensor(f"optim.state.{each}.{moment}", shape, dtype)
            for each, shape in shapes
            for moment in ("exp_avg", "exp_avg_sq")
        ]
    return tensors


def from_json(file: str, dtype: str) -> list[Tensor]:
    """Reads the tensors of a model from a JSON file.

    The file contains ``{"name": [4096, 4096]}``, or
    ``{"name": {"shape": [...], "dtype": "bfloat16"}}``.

    Args:
        file: path of the file.
        dtype: dtype of tensors that have none in the file.

    Raises:
        CommandError: the file cannot be read.
    """
    try:
        with open(file, encoding="utf-8") as stream:
            listed: Any = json.load(stream)
        if not isinstance(listed, dict) or not listed:
            raise ValueError("it is not a JSON object of names, or it is empty")
        return [_listed(name, what, dtype) for name, what in listed.items()]
    except (OSError, ValueError, RecursionError) as error:
        raise CommandError(f"cannot read shapes from {file}: {error}") from error


def _listed(name: str, what: Any, dtype: str) -> Tensor:
    if isinstance(what, dict):
        shape, dtype = what.get("shape"), what.get("dtype", dtype)
    else:
        shape = what
    whole = isinstance(shape, list) and all(type(n) is int and 0 <= n < 2**63 for n in shape)
    if not isinstance(shape, list) or not whole:
        raise ValueError(f"{name!r} has an invalid shape: {shortened(repr(shape))}")
    if not isinstance(dtype, str) or element_size(dtype) is None:
        raise ValueError(
            f"{name!r} has an unknown dtype: {shortened(repr(dtype))}; known dtypes: {NAMES}"
        )
    return Tensor(name, tuple(shape), dtype)
