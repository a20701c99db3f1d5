"""What upstream's code would call while native code reads or writes tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._device import DeviceContext

from ..native import native


def are_upstreams(planner: object, hooks: Mapping[str, Callable[..., Any]]) -> bool:
    """Returns whether a planner has upstream's methods of these names, and none of its own.

    Args:
        hooks: name -> upstream's function.
    """
    own = getattr(planner, "__dict__", {})
    return all(
        getattr(type(planner), name, None) is hook and name not in own
        for name, hook in hooks.items()
    )


def mode_is_active() -> bool:
    """Returns whether a torch function mode or dispatch mode sees upstream's operations.

    That of ``torch.set_default_device`` does not count.
    """
    modes = torch.overrides._get_current_function_mode_stack()
    return (
        any(type(mode) is not DeviceContext for mode in modes) or native.dispatch_mode_is_active()
    )
