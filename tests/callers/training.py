"""A model of many small parameters and its training, the same on every rank and in every run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

WIDTH = 5  # two ranks get shards of different sizes, and the last of four gets empty ones
#: A linear layer has two parameters. Each is saved with two moments and a step by AdamW.
ENTRIES_PER_LAYER = 8


#: ``nn.Module.load_state_dict`` takes quadratic time in the children of a module, so no module has
#: more, as in real models.
LAYERS_PER_BLOCK = 32


class Block(nn.Module):
    """Small linear layers, one after the other."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + 0.1 * torch.tanh(layer(x))
        return x


class Chain(nn.Sequential):
    """A model of some layers, in blocks."""

    def __init__(self, layers: int) -> None:
        starts = range(0, layers, LAYERS_PER_BLOCK)
        super().__init__(*(Block(min(LAYERS_PER_BLOCK, layers - start)) for start in starts))


def make_model(entries: int) -> Chain:
    """Returns a model that has at least ``entries`` entries in a checkpoint, with AdamW's."""
    torch.manual_seed(0)
    return Chain(-(-entries // ENTRIES_PER_LAYER))


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: str,
    backward: Callable[[torch.Tensor], None] = torch.Tensor.backward,
) -> None:
    """Trains two steps, so that the optimizer has its state."""
    torch.manual_seed(1)
    for _ in range(2):
        optimizer.zero_grad()
        backward(model(torch.randn(3, WIDTH, device=device)).square().mean())
        optimizer.step()
    optimizer.zero_grad()


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Returns this rank's part of a tensor."""
    part = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part.detach()


def tensors_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Returns this rank's part of every parameter and of the optimizer's state."""
    found = {f"model.{name}": local(value) for name, value in model.named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, parameter in enumerate(parameters):
        for name, value in optimizer.state[parameter].items():
            if isinstance(value, torch.Tensor):
                found[f"optimizer.{index}.{name}"] = local(value)
    return found


@torch.no_grad()
def change(tensors: Iterable[torch.Tensor]) -> None:
    """Changes every value of the tensors, in place."""
    for tensor in tensors:
        tensor.copy_(~tensor if tensor.dtype == torch.bool else tensor + 1)
