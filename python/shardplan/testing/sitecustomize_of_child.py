"""What a process spawned under the pytest plugin runs at its start.

The plugin puts a copy of this file, named sitecustomize.py, into the folder where calls are
counted, and that folder on PYTHONPATH. It may therefore import nothing but the standard library,
and should cost a process that never uses torch.distributed.checkpoint next to nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

DCP = "torch.distributed.checkpoint"


class AfterImport:
    """A finder for ``sys.meta_path`` that calls a function once a module has been imported.

    It is called before whoever imports the module sees any name of it.
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
        # On this one loader object: inspect and pkgutil go on to find the class that they know.
        execute = loader.exec_module  # type: ignore[attr-defined]

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self.then()

        loader.exec_module = exec_module  # type: ignore[attr-defined]


def _count_calls() -> None:
    # Another environment's Python, which inherited PYTHONPATH, may have torch and no shardplan.
    from importlib.util import find_spec

    if find_spec("shardplan") is not None:
        from shardplan.testing import call_count

        call_count.install(_FOLDER)


def _run_shadowed() -> None:
    """Runs the sitecustomize that would have been found if ours were not in front of it."""
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
    _run_shadowed()
