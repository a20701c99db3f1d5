"""Startup code of processes that are spawned under the pytest plugin.

The plugin copies this file as sitecustomize.py into the folder of the counts, and adds that folder
to PYTHONPATH. The file may import only the standard library, and its cost must be negligible for a
process that does not use torch.distributed.checkpoint.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

DCP = "torch.distributed.checkpoint"


class AfterImport:
    """A finder for ``sys.meta_path`` that calls a function after a module has been executed.

    The function runs before the importing code can use the module.

    Args:
        name: full name of the module.
        then: the function.
    """

    def __init__(self, name: str, then: Callable[[], object]) -> None:
        self.name = name
        self.then = then

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: object) -> None:
        # Patch only this loader object, because inspect and pkgutil check the class of loaders.
        execute = loader.exec_module  # type: ignore[attr-defined]

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self.then()

        loader.exec_module = exec_module  # type: ignore[attr-defined]


def _count_calls() -> None:
    # A Python of another environment inherits PYTHONPATH, too, and may have no shardplan.
    from importlib.util import find_spec

    if find_spec("shardplan") is not None:
        from shardplan.testing import call_count

        call_count.install(_FOLDER)


def run_shadowed() -> None:
    """Runs the sitecustomize module that this one shadows."""
    spec = PathFinder.find_spec("sitecustomize")
    if spec is None or spec.loader is None:
        return
    from importlib.util import module_from_spec

    module = sys.modules["sitecustomize"] = module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    _FOLDER = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _FOLDER]
    sys.meta_path.insert(0, AfterImport(DCP, _count_calls))
    run_shadowed()
