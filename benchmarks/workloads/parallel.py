"""Parameters on a mesh: their placements under a parallelism, and the state dict of a rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.distributed.tensor.placement_types import Placement, _StridedShard

Box = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a model; tensor parallelism shards ``tensor_parallel_dim``, if it is set."""

    shape: tuple[int, ...]
    tensor_parallel_dim: int | None = None


@dataclass(frozen=True)
class Parallelism:
    """A mesh, and what each of its dims does to a parameter."""

    mesh_shape: tuple[int, ...]
    dims: tuple[str, ...]

    @property
    def ranks(self) -> int:
        return prod(self.mesh_shape)

    def placements(self, parameter: Parameter) -> tuple[Placement, ...]:
        """Returns new placements for a parameter, because each FSDP parameter has its own."""
        return tuple(self._placement(dim, parameter) for dim in self.dims)

    def _placement(self, dim: str, parameter: Parameter) -> Placement:
        sharded = parameter.tensor_parallel_dim
        if dim == "replicate" or (dim == "tp" and sharded is None):
            return Replicate()
        if dim == "tp":
            assert sharded is not None
            return Shard(sharded)
        if "tp" in self.dims and sharded == 0:
            # FSDP2 shards a dim that tensor parallelism has already sharded.
            tensor_parallel = self.mesh_shape[self.dims.index("tp")]
            return _StridedShard(0, split_factor=tensor_parallel)
        return Shard(0)

    def mesh(self) -> DeviceMesh:
        """Returns the mesh, in the current world."""
        return init_device_mesh("cpu", self.mesh_shape, mesh_dim_names=self.dims)

    def mesh_of(self, rank: int) -> DeviceMesh:
        """Returns the mesh as ``rank`` sees it, without a world; only for computing boxes."""
        ranks = torch.arange(self.ranks).view(self.mesh_shape)
        return DeviceMesh("cpu", ranks, mesh_dim_names=self.dims, _init_backend=False, _rank=rank)


def fsdp(shards: int) -> Parallelism:
    """FSDP2 on a 1-D mesh."""
    return Parallelism((shards,), ("fsdp",))


def hsdp(replicas: int, shards: int) -> Parallelism:
    """HSDP: FSDP2 in groups, each of which holds the complete model."""
    return Parallelism((replicas, shards), ("replicate", "fsdp"))


def fsdp_tp(shards: int, tensor_parallel: int) -> Parallelism:
    """FSDP2 over tensor parallelism: column-wise parameters get a ``_StridedShard``."""
    return Parallelism((shards, tensor_parallel), ("fsdp", "tp"))


def with_adam(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """A model and its Adam moments under the keys of a flattened DCP state dict."""
    entries = {f"model.{name}": parameter for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        entries[f"optim.state.{name}.exp_avg"] = parameter
        entries[f"optim.state.{name}.exp_avg_sq"] = parameter
    return entries


class LocalBoxes:
    """The boxes that torch computes for a rank of a mesh; equal parameters share one."""

    def __init__(self, mesh: DeviceMesh) -> None:
        self._mesh = mesh
        self._known: dict[tuple[tuple[int, ...], tuple[Placement, ...]], Box] = {}

    def box(self, shape: tuple[int, ...], placements: tuple[Placement, ...]) -> Box:
        """Returns (sizes, offsets) of the local shard."""
        key = (shape, placements)
        if key not in self._known:
            sizes, offsets = compute_local_shape_and_global_offset(shape, self._mesh, placements)
            self._known[key] = (tuple(sizes), tuple(offsets))
        return self._known[key]


def dtensor(
    shape: tuple[int, ...],
    mesh: DeviceMesh,
    placements: tuple[Placement, ...],
    boxes: LocalBoxes | None = None,
) -> DTensor:
    """Returns a float32 DTensor whose local tensor is on the meta device."""
    sizes, _ = (boxes or LocalBoxes(mesh)).box(shape, placements)
    whole = torch.empty(shape, device="meta")
    return DTensor.from_local(
        torch.empty(sizes, device="meta"),
        mesh,
        placements,
        run_check=False,
        shape=whole.shape,
        stride=whole.stride(),
    )


def state_dict(
    parameters: Mapping[str, Parameter], parallelism: Parallelism, mesh: DeviceMesh | None = None
) -> dict[str, DTensor]:
    """The flat state dict of this rank, with one DTensor a parameter."""
    mesh = parallelism.mesh() if mesh is None else mesh
    boxes = LocalBoxes(mesh)
    return {
        name: dtensor(parameter.shape, mesh, parallelism.placements(parameter), boxes)
        for name, parameter in parameters.items()
    }
