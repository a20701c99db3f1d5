"""The parameters of Llama 3, named as in torchtitan."""

from __future__ import annotations

from dataclasses import dataclass

from shardplan.cli.checkpoint import models

from .parallel import Parameter


@dataclass(frozen=True)
class LlamaConfig:
    """The sizes that determine a Llama's parameters; uneven sizes work too."""

    dim: int
    layers: int
    hidden: int
    kv_dim: int = 1024
    vocabulary: int = 128_256


LLAMA3_8B = LlamaConfig(dim=4096, layers=32, hidden=14_336)
LLAMA3_70B = LlamaConfig(dim=8192, layers=80, hidden=28_672)
LLAMA3_405B = LlamaConfig(dim=16_384, layers=126, hidden=53_248)


def llama(config: LlamaConfig) -> dict[str, Parameter]:
    """Returns every parameter: nine a layer and three more, 1,137 for 405B."""
    shapes = models.llama(
        config.dim, config.layers, config.hidden, config.kv_dim, config.vocabulary
    )
    return {name: Parameter(shape, _tensor_parallel_dim(name)) for name, shape in shapes}


def _tensor_parallel_dim(name: str) -> int | None:
    """Columns of a layer's first matrices, rows of its last; norms are replicated."""
    if name.endswith("norm.weight"):
        return None
    return 1 if name.endswith(("attention.wo.weight", "feed_forward.w2.weight")) else 0
