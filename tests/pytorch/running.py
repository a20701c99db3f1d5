"""Runs a test file of a PyTorch checkout in a process of its own, in one of three ways."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from . import outcomes

_ON_CPU = Path(__file__).parent / "on_cpu"
_PLUGIN = ("-p", "shardplan.pytest_plugin", "--shardplan-allow-no-calls")
# One test of several processes, in seconds. Upstream's default is 300.
_TIMEOUT_OF_TEST = "250"


class Way(enum.Enum):
    """How tests are run. The values are pytest's options."""

    UPSTREAM = ()
    REGISTERED = _PLUGIN
    CLASSES = (*_PLUGIN, "--shardplan-classes")

    def __str__(self) -> str:
        return self.name.lower()


def run(checkout: Path, file: Path, way: Way, timeout: float) -> outcomes.FileRun:
    """Runs all tests of a file. A run that ends without a report has one outcome, of the file."""
    # Sockets of multiprocessing lie in the folder of temporary files, and their paths are short.
    with tempfile.TemporaryDirectory(prefix="dcp-", ignore_cleanup_errors=True) as folder:
        report = Path(folder, "report.xml")
        configuration = Path(folder, "pytest.ini")
        configuration.write_text("[pytest]\n")
        command = [
            *(sys.executable, "-m", "pytest", "-q", *way.value, "-p", "no:cacheprovider"),
            # The checkout's settings and conftest are those of its own continuous integration.
            *("-c", str(configuration), "--rootdir", str(checkout / "test"), "--noconftest"),
            *(f"--junit-xml={report}", "--tb=native", str(file)),
        ]
        with open(Path(folder, "output"), "w+", encoding="utf-8", errors="replace") as output:
            ended = _call(command, checkout / "test", _environment(folder), output, timeout)
            if report.exists():
                return outcomes.read(report)
            output.seek(0)
            return outcomes.FileRun(
                {str(file.name): ended}, {str(file.name): output.read()[-4000:]}
            )


def _environment(folder: str) -> dict[str, str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("SHARDPLAN_REGISTER", "PYTEST_ADDOPTS")
    }
    path = os.environ.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([str(_ON_CPU), *([path] if path else [])])
    environment["TMPDIR"] = folder
    environment.setdefault("DISTRIBUTED_TESTS_DEFAULT_TIMEOUT", _TIMEOUT_OF_TEST)
    environment.setdefault("OMP_NUM_THREADS", "1")
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


def _call(
    command: list[str], folder: Path, environment: dict[str, str], output: object, timeout: float
) -> str:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return f"no report, exit code {process.wait(timeout)}"
    except subprocess.TimeoutExpired:
        return "no report, timed out"
    finally:
        # Also those that a test has left behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
