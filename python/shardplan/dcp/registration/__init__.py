"""Installs the twins in upstream's modules, and restores upstream's functions.

This package imports every module that declares a twin, so that the table of twins is complete.
"""

from __future__ import annotations

from ..planners import coordinator
from ..storage import filesystem, hf_storage, item_writing
from ..twins import default_planner, planner_helpers, resharding
from . import async_process
from .registry import Registration, install, register, registered, unregister

__all__ = [
    "Registration",
    "async_process",
    "coordinator",
    "default_planner",
    "filesystem",
    "hf_storage",
    "install",
    "item_writing",
    "planner_helpers",
    "register",
    "registered",
    "resharding",
    "unregister",
]
