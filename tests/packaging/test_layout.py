"""Import rules of the Python package."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import shardplan

ROOT = Path(shardplan.__file__).parent
# These packages must work without torch.
WITHOUT_TORCH = ("cli", "diagnosis")


def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(["shardplan", *path.relative_to(ROOT).with_suffix("").parts])
        found[name.removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Returns the modules of the package that a module imports, anywhere in its source."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        parts = package.split(".")
        parts = parts[: len(parts) - node.level + 1]
        base = ".".join([*parts, node.module] if node.module else parts)
        for alias in node.names:
            found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base)
    # The package itself imports only `_build`, until one of its names is used.
    return (found & known.keys()) - {name, "shardplan"}


def test_no_import_cycles() -> None:
    known = modules()
    graph = {name: imports(name, path, known) for name, path in known.items()}
    del graph["shardplan"]
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    assert len(done) > 50


def test_the_command_line_does_not_import_torch() -> None:
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).parts[0] in WITHOUT_TORCH:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    names.append(node.module or "")
                assert not any(name.split(".")[0] == "torch" for name in names), path


REPOSITORY = Path(__file__).parents[2]
CORE = REPOSITORY / "csrc" / "core"
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
# A folder of the core includes those before it.
CORE_FOLDERS = (
    "util",
    "boxes",
    "columns",
    "wire",
    "planning",
    "pickle",
    "metadata",
    "data",
    "inspect",
    "simulate",
)


def test_folders_of_the_core_are_known_and_documented_in_order() -> None:
    assert {path.name for path in CORE.iterdir() if path.is_dir()} == set(CORE_FOLDERS)
    rows = re.findall(r"^\| `(\w+)/` \|", ARCHITECTURE, re.MULTILINE)
    assert tuple(rows[: len(CORE_FOLDERS)]) == CORE_FOLDERS


@pytest.mark.parametrize("folder", CORE_FOLDERS)
def test_includes_of_the_core_go_one_way(folder: str) -> None:
    allowed = CORE_FOLDERS[: CORE_FOLDERS.index(folder) + 1]
    sources = [path for path in (CORE / folder).iterdir() if path.suffix in (".h", ".cpp")]
    assert sources
    for path in sources:
        text = path.read_text(encoding="utf-8")
        for included in re.findall(r'#include "([^"]+)"', text):
            first, second = included.split("/")[:2]
            assert (first, second in allowed) == ("core", True), (path, included)
        namespaces = set(re.findall(r"^namespace ([\w:]+) \{", text, re.MULTILINE))
        assert namespaces and {name.split("::")[1] for name in namespaces} == {folder}, path


@pytest.mark.parametrize("folder", CORE_FOLDERS)
def test_files_of_the_core_are_documented(folder: str) -> None:
    # The table of the core is the first one; the bindings have folders of the same names.
    row = re.findall(rf"^\| `{folder}/` \| (.*) \|$", ARCHITECTURE, re.MULTILINE)[0]
    for path in (CORE / folder).glob("*.h"):
        assert f"`{path.stem}`" in row or f"`{path.name}`" in row, path


def test_packages_are_documented() -> None:
    for path in (ROOT / "dcp").iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert f"`dcp/{path.name}/`" in ARCHITECTURE
            for module in path.glob("*.py"):
                if module.stem != "__init__":
                    assert f"`{module.stem}`" in ARCHITECTURE, module
