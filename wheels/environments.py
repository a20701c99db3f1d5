"""Virtual environments that pip installs a wheel into, without downloading torch again."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

Result = subprocess.CompletedProcess[str]


def site_packages(environment: Path) -> Path:
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return environment / "lib" / name / "site-packages"


def required(name: str) -> set[str]:
    """Returns the name of an installed distribution and those of all that it requires."""
    found: set[tuple[str, str]] = set()
    waiting = [(name, "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(requirement.name, extra) for extra in ("", *requirement.extras)]
    return {name for name, _ in found}


def link_distributions(environment: Path, *names: str) -> None:
    """Links installed distributions, and all that they require, into an environment.

    Raises:
        ValueError: a distribution does not list its files.
        importlib.metadata.PackageNotFoundError: a distribution is not installed.
    """
    target = site_packages(environment)
    for name in set().union(*map(required, names)):
        distribution = importlib.metadata.distribution(name)
        if distribution.files is None:
            raise ValueError(f"the installed {name} does not list its files")
        # Scripts are outside site-packages.
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (target / top).exists():
                (target / top).symlink_to(str(distribution.locate_file(top)))


def make_environment(folder: Path, *names: str) -> Path:
    """Creates an environment that has pip and some of the distributions installed here."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    link_distributions(folder, "pip", *names)
    return folder


def pretend_torch(environment: Path, version: str) -> None:
    """Lets pip find a torch in an environment. There is nothing to import."""
    info = site_packages(environment) / f"torch-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").touch()


def run_python(environment: Path, *arguments: str | Path) -> Result:
    """Runs an environment's Python outside the source folder, without settings of pip."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "PYTHON", "SHARDPLAN_"))
    }
    return subprocess.run(
        [str(environment / "bin" / "python"), *map(str, arguments)],
        env={**inherited, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        cwd=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def pip_install(environment: Path, index: Path, *arguments: str) -> Result:
    """Runs ``pip install`` with one index, as a user does that has no other."""
    url = index.resolve().as_uri()
    return run_python(environment, "-m", "pip", "install", "--index-url", url, *arguments)
