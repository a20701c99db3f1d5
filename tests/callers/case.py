"""What a module of ``cases`` has, and the constants of each, read without importing it."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import Any, Protocol

import torch

_FOLDER = Path(__file__).parent / "cases"


class Case(Protocol):
    """The functions of a module of ``cases``. Each is called on every rank.

    ``save`` and ``load`` are timed. They use the public interface of the caller, as its users do,
    and nothing of shardplan.
    """

    def prepare(self, device: str, entries: int) -> Any:
        """Returns the state of a training, the same in each run.

        Its checkpoint has at least ``entries`` entries. The process group exists already.
        """

    def save(self, state: Any, path: Path) -> None: ...

    def load(self, state: Any, path: Path) -> None: ...

    def tensors(self, state: Any) -> dict[str, torch.Tensor]:
        """Returns this rank's tensors by name: the live ones, which the harness also changes."""


@dataclasses.dataclass(frozen=True)
class Description:
    """The constants of a module of ``cases``.

    Attributes:
        name: of the module.
        package: the distribution whose version is shown.
        what: what is saved, in a few words.
        requirements: what pip installs beside torch and shardplan.
        ranks: the sizes of the worlds that the case can run on; empty if it runs on any.
        devices: what the case can run on.
        results_ordered: whether the order of ``storage_data`` is the same in every save.
    """

    name: str
    package: str
    what: str
    requirements: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    devices: tuple[str, ...] = ("cpu", "cuda")
    results_ordered: bool = True


def names() -> list[str]:
    """Returns the names of all cases."""
    return sorted(path.stem for path in _FOLDER.glob("*.py") if path.stem != "__init__")


def describe(name: str) -> Description:
    """Reads the constants of a case. Its package need not be installed here."""
    fields = {field.name for field in dataclasses.fields(Description)} - {"name"}
    found: dict[str, Any] = {}
    for statement in ast.parse((_FOLDER / f"{name}.py").read_text(encoding="utf-8")).body:
        target = None
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        if isinstance(target, ast.Name) and target.id.lower() in fields:
            found[target.id.lower()] = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
    return Description(name, **found)
