"""Puts shardplan's classes under upstream's names.

``register()`` never replaces a class. The pytest plugin does so on request, so that tests that
name upstream's planners, readers and writers run shardplan's.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
from types import ModuleType

import shardplan

from .sitecustomize_of_child import DCP

# Upstream's module of each class.
_HOMES = {
    "DefaultLoadPlanner": "default_planner",
    "DefaultSavePlanner": "default_planner",
    "FileSystemReader": "filesystem",
    "FileSystemWriter": "filesystem",
    "FsspecReader": "_fsspec_filesystem",
    "FsspecWriter": "_fsspec_filesystem",
    "HuggingFaceStorageReader": "hf_storage",
    "HuggingFaceStorageWriter": "hf_storage",
}
# Upstream's modules of these packages may subclass the classes.
_PACKAGES = (DCP, f"{DCP}._experimental")

_put: list[tuple[ModuleType, str, type]] = []  # holder, name, upstream's class


def install() -> None:
    """Replaces the classes in every module of torch.distributed.checkpoint.

    Those modules are imported first, so that upstream's subclasses have upstream's bases.
    """
    _import_all()
    pairs = {}
    for name, home in _HOMES.items():
        # Upstream's module may need a package that is not installed.
        with contextlib.suppress(ImportError):
            upstream = getattr(importlib.import_module(f"{DCP}.{home}"), name)
            pairs[id(upstream)] = (upstream, getattr(shardplan, name))
    modules = [
        module
        for name, module in list(sys.modules.items())
        if type(module) is ModuleType and (name == DCP or name.startswith(f"{DCP}."))
    ]
    for module in modules:
        for name, value in list(vars(module).items()):
            if id(value) in pairs:
                upstream, ours = pairs[id(value)]
                _put.append((module, name, upstream))
                setattr(module, name, ours)


def uninstall() -> None:
    """Restores upstream's classes."""
    while _put:
        module, name, upstream = _put.pop()
        setattr(module, name, upstream)


def _import_all() -> None:
    for package in _PACKAGES:
        with contextlib.suppress(ImportError):
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                with contextlib.suppress(ImportError):
                    importlib.import_module(f"{package}.{module.name}")
