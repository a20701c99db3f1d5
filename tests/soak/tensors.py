"""Tensors of random bits, in every layout of memory that a state dict may hold."""

from __future__ import annotations

import random

import torch

_NAMES = (
    "float64 float32 float16 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz "
    "float8_e8m0fnu complex32 complex64 complex128 bool int8 int16 int32 int64 uint8 uint16 uint32 "
    "uint64"
)
DTYPES = tuple(getattr(torch, name) for name in _NAMES.split() if hasattr(torch, name))
SAFETENSORS_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

#: Layouts of a tensor in memory.
FORMS = ("whole", "whole", "whole", "slice", "transposed", "stepped", "parameter", "lazy")
#: Those that a ShardedTensor and a safetensors file accept.
CONTIGUOUS = ("whole", "whole", "slice")


def random_bits(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Returns a tensor of any bits, NaNs included; a boolean has one of its two."""
    generator = torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel() * dtype.itemsize
    data = torch.randint(0, 256, (count,), dtype=torch.uint8, generator=generator)
    if dtype is torch.bool:
        data &= 1
    return data.view(dtype).view(shape)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    packed = tensor.detach().resolve_conj().clone(memory_format=torch.contiguous_format)
    return packed.view(-1).view(torch.uint8)


def memory_of(tensor: torch.Tensor) -> torch.Tensor:
    """Returns all bytes of the storage of a tensor, also those that are not elements of it."""
    found = torch.empty(0, dtype=torch.uint8)
    return found.set_(tensor.untyped_storage()).clone()


def formed(data: torch.Tensor, form: str) -> torch.Tensor:
    """Returns a tensor with the values of ``data`` and this layout in memory, if it can have it."""
    if form == "slice":
        view = _filled(data.numel() + 8, data.dtype)[5 : 5 + data.numel()].view(data.shape)
        return view.copy_(data)
    if form == "transposed" and data.dim() > 1:
        return data.transpose(0, -1).contiguous().transpose(0, -1)
    if form == "stepped" and data.dim() > 0:
        *first, last = data.shape
        return _filled((*first, 2 * last), data.dtype)[..., ::2].copy_(data)
    if form == "parameter":
        return torch.nn.Parameter(data.clone(), requires_grad=False)
    if form == "lazy" and data.is_complex() and data.dtype is not torch.complex32:
        return data.conj_physical().conj()
    return data.clone()


def _filled(shape: int | tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    size = torch.Size((shape,) if isinstance(shape, int) else shape)
    return random_bits(tuple(size), dtype, seed=7)


def a_shape(draw: random.Random) -> tuple[int, ...]:
    """Draws a shape of up to four dimensions; some are large enough for several writes."""
    if draw.random() < 0.06:
        return (draw.randint(200, 1500), draw.randint(1, 700))
    if draw.random() < 0.06:
        return (draw.randint(1, 3), draw.randint(100, 600), draw.randint(1, 300))
    sizes = (1, 2, 3, 4, 5, 7, 8, 13, 16, 31)
    dims = draw.choice((0, 1, 1, 2, 2, 2, 3, 4))
    return tuple(0 if draw.random() < 0.04 else draw.choice(sizes) for _ in range(dims))
