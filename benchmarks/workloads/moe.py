"""A mixture of experts like DeepSeek-V3's, with separate weights for each expert."""

from __future__ import annotations

from dataclasses import dataclass

from torch.distributed.tensor import DTensor

from .parallel import Parallelism, Parameter, fsdp, state_dict, with_adam


@dataclass(frozen=True)
class MoeConfig:
    """The sizes that determine the parameters; the first ``dense_layers`` have no experts."""

    dim: int
    layers: int
    dense_layers: int
    dense_hidden: int
    experts: int
    expert_hidden: int
    query_rank: int
    query_dim: int
    kv_rank: int
    kv_dim: int
    rotary_dim: int
    value_dim: int
    vocabulary: int


DEEPSEEK_V3 = MoeConfig(
    dim=7168,
    layers=61,
    dense_layers=3,
    dense_hidden=18_432,
    experts=256,
    expert_hidden=2048,
    query_rank=1536,
    query_dim=24_576,
    kv_rank=512,
    kv_dim=32_768,
    rotary_dim=64,
    value_dim=16_384,
    vocabulary=129_280,
)


def moe(config: MoeConfig, experts: range | None = None) -> dict[str, Parameter]:
    """Returns the parameters with all experts, or with those of one expert-parallel group."""
    held = range(config.experts) if experts is None else experts
    parameters = {"embed_tokens.weight": Parameter((config.vocabulary, config.dim), 0)}
    for layer in range(config.layers):
        of_layer = _attention(config)
        if layer < config.dense_layers:
            of_layer |= _mlp("mlp", config.dim, config.dense_hidden)
        else:
            of_layer["mlp.gate.weight"] = Parameter((config.experts, config.dim))
            of_layer["mlp.gate.e_score_correction_bias"] = Parameter((config.experts,))
            of_layer |= _mlp("mlp.shared_experts", config.dim, config.expert_hidden)
            for expert in held:
                of_layer |= _mlp(f"mlp.experts.{expert}", config.dim, config.expert_hidden)
        for name, parameter in of_layer.items():
            parameters[f"layers.{layer}.{name}"] = parameter
    parameters["norm.weight"] = Parameter((config.dim,))
    parameters["lm_head.weight"] = Parameter((config.vocabulary, config.dim), 0)
    return parameters


def moe_state_dict(config: MoeConfig, shards: int, expert_parallel: int = 1) -> dict[str, DTensor]:
    """The state dict of this rank with Adam, on ``shards * expert_parallel`` ranks.

    Under expert parallelism a rank has only the experts of its group, sharded on a sub-mesh. All
    other parameters are sharded over all ranks.
    """
    if expert_parallel == 1:
        return state_dict(with_adam(moe(config)), fsdp(shards))
    grid = Parallelism((shards, expert_parallel), ("expert_fsdp", "ep")).mesh()
    per_group = config.experts // expert_parallel
    first = grid.get_local_rank("ep") * per_group
    parameters = with_adam(moe(config, range(first, first + per_group)))
    expert = {name: entry for name, entry in parameters.items() if ".experts." in name}
    rest = {name: entry for name, entry in parameters.items() if name not in expert}
    everyone = fsdp(shards * expert_parallel)
    return {
        **state_dict(rest, everyone),
        **state_dict(expert, fsdp(shards), grid["expert_fsdp"]),
    }


def _attention(config: MoeConfig) -> dict[str, Parameter]:
    dim = config.dim
    return {
        "input_layernorm.weight": Parameter((dim,)),
        "self_attn.q_a_proj.weight": Parameter((config.query_rank, dim)),
        "self_attn.q_a_layernorm.weight": Parameter((config.query_rank,)),
        "self_attn.q_b_proj.weight": Parameter((config.query_dim, config.query_rank), 0),
        "self_attn.kv_a_proj_with_mqa.weight": Parameter((config.kv_rank + config.rotary_dim, dim)),
        "self_attn.kv_a_layernorm.weight": Parameter((config.kv_rank,)),
        "self_attn.kv_b_proj.weight": Parameter((config.kv_dim, config.kv_rank), 0),
        "self_attn.o_proj.weight": Parameter((dim, config.value_dim), 1),
        "post_attention_layernorm.weight": Parameter((dim,)),
    }


def _mlp(prefix: str, dim: int, hidden: int) -> dict[str, Parameter]:
    return {
        f"{prefix}.gate_proj.weight": Parameter((hidden, dim), 0),
        f"{prefix}.up_proj.weight": Parameter((hidden, dim), 0),
        f"{prefix}.down_proj.weight": Parameter((dim, hidden), 1),
    }
