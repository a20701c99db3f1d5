"""State dicts of large trainings, for benchmarks and tests.

A world of any size is simulated in one process, with torch's fake process group and meta tensors.
Every size is a parameter.
"""

from __future__ import annotations

from .boxes import Boxes, grid, kd_split, sharded
from .dlrm import dlrm_state_dict
from .llama import LLAMA3_8B, LLAMA3_70B, LLAMA3_405B, LlamaConfig, llama
from .moe import DEEPSEEK_V3, MoeConfig, moe, moe_state_dict
from .parallel import Parallelism, Parameter, fsdp, fsdp_tp, hsdp, state_dict, with_adam
from .plans import every_rank, every_rank_of_moe
from .saved import reshard, saved_metadata
from .world import world

__all__ = [
    "DEEPSEEK_V3",
    "LLAMA3_8B",
    "LLAMA3_70B",
    "LLAMA3_405B",
    "Boxes",
    "LlamaConfig",
    "MoeConfig",
    "Parallelism",
    "Parameter",
    "dlrm_state_dict",
    "every_rank",
    "every_rank_of_moe",
    "fsdp",
    "fsdp_tp",
    "grid",
    "hsdp",
    "kd_split",
    "llama",
    "moe",
    "moe_state_dict",
    "reshard",
    "saved_metadata",
    "sharded",
    "state_dict",
    "with_adam",
    "world",
]
