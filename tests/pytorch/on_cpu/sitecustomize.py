"""Startup code of every process of a run: tests that ask for accelerators run on CPU with gloo.

The runner puts this file's folder on PYTHONPATH, for all runs alike. Nothing is patched in a
process that does not import torch's test helpers. What a test names by itself, such as the
device "cuda" of a tensor, is not changed.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from shardplan.testing.sitecustomize_of_child import AfterImport, run_shadowed

_COMMON = "torch.testing._internal.common_distributed"
_DTENSOR = "torch.testing._internal.distributed._tensor.common_dtensor"
_SHARDED = "torch.testing._internal.distributed._shard.sharded_tensor"
_ACCELERATOR_BACKENDS = ("nccl", "xccl", "hccl")


def _unchanged(function: Any) -> Any:
    return function


def _requires_nothing(*_args: Any, **_kwargs: Any) -> Callable[[Any], Any]:
    """Replaces a function that makes decorators that skip tests."""
    return _unchanged


def _on_gloo(backend: str | None) -> str | None:
    if backend is not None and any(name in backend for name in _ACCELERATOR_BACKENDS):
        return "gloo"
    return backend


def _patch_common() -> None:
    module: Any = sys.modules[_COMMON]
    for name in (
        "nccl_skip_if_lt_x_gpu",
        "require_n_gpus_for_nccl_backend",
        "requires_accelerator_dist_backend",
        "requires_nccl",
        "requires_nccl_version",
        "skip_if_lt_x_gpu",
    ):
        setattr(module, name, _requires_nothing)
    module.skip_if_no_gpu = _unchanged
    module.at_least_x_gpu = lambda _count: True
    _patch_process_groups()
    _patch_accelerator()


def _patch_process_groups() -> None:
    import torch.distributed as dist

    init = dist.init_process_group

    @functools.wraps(init)
    def init_process_group(backend: str | None = None, *args: Any, **kwargs: Any) -> None:
        if _called_by_torch() and _on_gloo(backend) == backend:
            return init(backend, *args, **kwargs)
        kwargs.pop("device_id", None)
        return init(_on_gloo(backend), *args, **kwargs)

    dist.init_process_group = init_process_group


def _called_by_torch() -> bool:
    """Returns whether the caller of our caller is torch, rather than a test or its helpers."""
    name = str(sys._getframe(2).f_globals.get("__name__", ""))
    return name.startswith("torch.") and not name.startswith("torch.testing.")


def _patch_accelerator() -> None:
    """Tells tests that the accelerator is the CPU. Torch itself still learns that there is none."""
    import torch

    current = torch.accelerator.current_accelerator
    set_index = torch.accelerator.set_device_index
    index = torch.accelerator.current_device_index
    set_cuda = torch.cuda.set_device

    def current_accelerator(*args: Any, **kwargs: Any) -> Any:
        return current(*args, **kwargs) if _called_by_torch() else torch.device("cpu")

    def set_device_index(*args: Any, **kwargs: Any) -> None:
        if _called_by_torch():
            set_index(*args, **kwargs)

    def current_device_index() -> int:
        return index() if _called_by_torch() else 0

    def set_device(device: Any) -> None:
        if _called_by_torch():
            set_cuda(device)

    torch.accelerator.current_accelerator = current_accelerator
    torch.accelerator.set_device_index = set_device_index
    torch.accelerator.current_device_index = current_device_index
    torch.accelerator.set_device_idx = set_device_index
    torch.accelerator.current_device_idx = current_device_index
    torch.cuda.set_device = set_device


def _patch_dtensor() -> None:
    module: Any = sys.modules[_DTENSOR]
    module.skip_unless_torch_gpu = _unchanged
    base = module.DTensorTestBase
    init_pg = base.init_pg

    def init_pg_on_gloo(self: Any, eager_init: Any = False, backend: str | None = None) -> None:
        init_pg(self, eager_init, _on_gloo(backend if backend is not None else self.backend))

    base.init_pg = init_pg_on_gloo


def _patch_sharded() -> None:
    module: Any = sys.modules[_SHARDED]
    with_comms = module.with_comms

    def with_comms_of_gloo(func: Any = None, init_rpc: bool = True, backend: str = "nccl") -> Any:
        return with_comms(func, init_rpc=init_rpc, backend=_on_gloo(backend))

    def init_rpc(self: Any) -> None:
        # Upstream's method also maps devices, and on CPU there is nothing to map.
        options = module.rpc.TensorPipeRpcBackendOptions(_transports=module.tp_transports())
        options.init_method = f"file://{self.file_name}"
        module.rpc.init_rpc(
            name=f"worker{self.rank:d}",
            rank=self.rank,
            world_size=self.world_size,
            rpc_backend_options=options,
        )

    module.with_comms = with_comms_of_gloo
    module.ShardedTensorTestBase.init_rpc = init_rpc


if __name__ == "sitecustomize":
    for _name, _patch in (
        (_COMMON, _patch_common),
        (_DTENSOR, _patch_dtensor),
        (_SHARDED, _patch_sharded),
    ):
        sys.meta_path.insert(0, AfterImport(_name, _patch))
    _own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _own]
    run_shadowed()
