"""A small transformer, sharded with FSDP2 or with FSDP2 x tensor parallelism, and its training."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

# No size is divisible by 2, 3 or 4, so no mesh here splits anything evenly.
VOCABULARY, LENGTH, WIDTH, HEADS, HIDDEN, LAYERS = 101, 17, 35, 5, 53, 3
STEPS = 4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.feed_norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.attention_norm(x)
        query, key, value = (
            project(h).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(-2))
        fed: torch.Tensor = self.down(F.gelu(self.up(self.feed_norm(x))))
        return x + fed


class Transformer(nn.Module):
    batches_seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(torch.randn(LENGTH, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        # One element: every rank but one holds an empty shard of it.
        self.temperature = nn.Parameter(torch.ones(1))
        # A 0-d tensor that no mesh shards: every rank has it, one saves it.
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.int64))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return torch.mul(self.head(self.norm(x)), self.temperature)


def make_mesh(shape: tuple[int, ...]) -> DeviceMesh:
    """A mesh of CPU processes: 1-D for FSDP, 2-D for FSDP x TP."""
    return init_device_mesh("cpu", shape, mesh_dim_names=("fsdp", "tp")[: len(shape)])


def make(mesh: DeviceMesh, seed: int, lr: float) -> tuple[Transformer, torch.optim.AdamW]:
    """The model, sharded on this mesh, and its optimizer."""
    torch.manual_seed(seed)
    model = Transformer()
    if mesh.ndim == 2:
        _split_by_tensor(model, mesh["tp"])
    for block in model.blocks:
        fully_shard(block, mesh=mesh["fsdp"])
    fully_shard(model, mesh=mesh["fsdp"])
    return model, torch.optim.AdamW(model.parameters(), lr=lr)


def _split_by_tensor(model: Transformer, mesh: DeviceMesh) -> None:
    # Uneven parts have to travel as DTensors or whole: a plain local tensor does not say how much
    # the other ranks hold.
    block_plan: dict[str, ParallelStyle] = {
        "query": ColwiseParallel(output_layouts=Replicate()),
        "key": ColwiseParallel(output_layouts=Replicate()),
        "value": ColwiseParallel(output_layouts=Replicate()),
        "out": RowwiseParallel(input_layouts=Replicate()),
        "up": ColwiseParallel(use_local_output=False),
        "down": RowwiseParallel(),
    }
    for block in model.blocks:
        parallelize_module(block, mesh, block_plan)
    parallelize_module(
        model,
        mesh,
        {
            "tokens": RowwiseParallel(input_layouts=Replicate()),
            "head": ColwiseParallel(output_layouts=Replicate()),
        },
    )


def train(model: Transformer, optimizer: torch.optim.Optimizer) -> list[float]:
    """A few steps on one batch; returns the loss of each."""
    batch = torch.randint(VOCABULARY, (3, LENGTH), generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(STEPS):
        logits = model(batch)[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.batches_seen += 1
        losses.append(loss.item())
    return losses


def state_of(
    model: Transformer, optimizer: torch.optim.Optimizer, losses: list[float]
) -> dict[str, Any]:
    """What a checkpoint holds: model, optimizer, and some of a training loop's own."""
    model_state, optimizer_state = get_state_dict(model, optimizer)
    return {
        "model": model_state,
        "optimizer": optimizer_state,
        "loop": {"losses": losses, "note": "a string", "rng": torch.get_rng_state()},
    }
