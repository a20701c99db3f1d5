"""Tests the wheel for the torch and the Python of this environment, as a user installs it.

    python -m wheels.check dist/index

pip installs it from the index into a new environment that has this environment's torch and none of
the source code. There it saves and loads. Beside another torch minor, pip must refuse it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import tempfile
from pathlib import Path

from .environments import (
    Result,
    make_environment,
    pip_install,
    pretend_torch,
    run_python,
    site_packages,
)

SAVE_AND_LOAD = """
import importlib.metadata, sys
import torch, shardplan
import torch.distributed.checkpoint as dcp

state = {"weight": torch.arange(6.0).reshape(2, 3), "step": 7}
found = {"weight": torch.zeros(2, 3), "step": 0}
shardplan.register()
dcp.save(state, checkpoint_id=sys.argv[1], no_dist=True)
dcp.load(found, checkpoint_id=sys.argv[1], no_dist=True)
assert torch.equal(found["weight"], state["weight"]) and found["step"] == 7, found
assert shardplan.fallbacks() == {}, shardplan.fallbacks()
print(importlib.metadata.version("shardplan"), shardplan.__file__)
"""


class Failed(Exception):
    """The wheel is not as it should be."""


def succeeded(result: Result) -> str:
    if result.returncode != 0:
        raise Failed(f"{result.args} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def check_works(folder: Path, index: Path, label: str) -> None:
    """Installs the wheel beside this environment's torch, and saves and loads with it.

    Raises:
        Failed: a command failed, a fallback was counted, or other code than the wheel's ran.
    """
    environment = make_environment(folder / "with-torch", "torch", "numpy")
    installed = succeeded(pip_install(environment, index, "shardplan"))
    print(installed.splitlines()[-1])
    print(succeeded(run_python(environment, "-m", "shardplan", "info", "--check")).strip())
    output = succeeded(run_python(environment, "-c", SAVE_AND_LOAD, folder / "saved"))
    version, _, home = output.strip().rpartition(" ")
    if not version.endswith(f"+{label}"):
        raise Failed(f"the installed version is {version}, without the label {label}")
    if site_packages(environment) not in Path(home).parents:
        raise Failed(f"shardplan was imported from {home}")


def check_refused(folder: Path, index: Path, other: str, required: str) -> None:
    """Checks that pip does not install the wheel beside a torch of another minor version.

    Raises:
        Failed: pip installed it, or its message does not name the torch that is required.
    """
    environment = make_environment(folder / "another-torch")
    pretend_torch(environment, other)
    result = pip_install(environment, index, "shardplan")
    output = result.stdout + result.stderr
    if result.returncode == 0 or f"torch=={required}.*" not in output:
        raise Failed(f"pip did not refuse the wheel beside torch {other}:\n{output}")
    print(f"beside torch {other}: {output.strip().splitlines()[-1]}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("indexes", type=Path, help="a folder that wheels.index has written")
    options = parser.parse_args(arguments)
    major, minor = importlib.metadata.version("torch").split(".")[:2]
    label = f"torch{major}.{minor}"
    everything = options.indexes / "simple"
    same_torch = options.indexes / label / "simple"
    with tempfile.TemporaryDirectory(prefix="shardplan-wheel-") as temporary:
        folder = Path(temporary).resolve()
        try:
            check_works(folder, everything, label)
            check_refused(folder, same_torch, f"{major}.{int(minor) + 1}.0", f"{major}.{minor}")
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
