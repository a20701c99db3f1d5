"""The parameters of Llama 3, named as in torchtitan."""

from __future__ import annotations

from dataclasses import dataclass

from .parallel import Parameter


@dataclass(frozen=True)
class LlamaConfig:
    """The sizes that decide a Llama's parameters; uneven ones are as good as Meta's."""

    dim: int
    layers: int
    hidden: int
    kv_dim: int = 1024
    vocabulary: int = 128_256


LLAMA3_8B = LlamaConfig(dim=4096, layers=32, hidden=14_336)
LLAMA3_70B = LlamaConfig(dim=8192, layers=80, hidden=28_672)
LLAMA3_405B = LlamaConfig(dim=16_384, layers=126, hidden=53_248)


def llama(config: LlamaConfig) -> dict[str, Parameter]:
    """Every parameter: nine a layer and three more, 1,137 for 405B."""
    dim, hidden, kv_dim = config.dim, config.hidden, config.kv_dim
    parameters = {"tok_embeddings.weight": Parameter((config.vocabulary, dim), 0)}
    for layer in range(config.layers):
        of_layer = {
            "attention.wq": Parameter((dim, dim), 0),
            "attention.wk": Parameter((kv_dim, dim), 0),
            "attention.wv": Parameter((kv_dim, dim), 0),
            "attention.wo": Parameter((dim, dim), 1),
            "feed_forward.w1": Parameter((hidden, dim), 0),
            "feed_forward.w2": Parameter((dim, hidden), 1),
            "feed_forward.w3": Parameter((hidden, dim), 0),
            "attention_norm": Parameter((dim,)),
            "ffn_norm": Parameter((dim,)),
        }
        for name, parameter in of_layer.items():
            parameters[f"layers.{layer}.{name}.weight"] = parameter
    parameters["norm.weight"] = Parameter((dim,))
    parameters["output.weight"] = Parameter((config.vocabulary, dim), 0)
    return parameters
