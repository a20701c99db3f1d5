"""Starts a world of processes with torchrun, runs cases in it, and reads their results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .result import Result, from_output

SOURCE = Path(__file__).resolve().parents[2]
#: Seconds that torchrun has to end its processes.
_GRACE = 20


def run_cases(
    names: Sequence[str],
    ranks: int,
    *,
    python: Path | str = sys.executable,
    device: str = "cpu",
    entries: int = 6000,
    rounds: int = 3,
    timeout: float = 600,
) -> tuple[list[Result], str]:
    """Runs cases in new processes.

    Args:
        names: of the cases.
        ranks: how many processes.
        python: the interpreter of an environment with the packages of the cases.
        device: ``cpu`` or ``cuda``.
        entries: the least number of entries of the checkpoint.
        rounds: how often saves and loads are timed; 0 for checks only.
        timeout: seconds after which the processes are ended.

    Returns:
        The results, fewer than there are cases if one raised, and what the processes printed.
    """
    # Removed also if the processes are ended before they remove what they wrote.
    with tempfile.TemporaryDirectory(prefix="shardplan-callers-") as folder:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
        module = ["-m", "tests.callers.harness", *names]
        options = [f"--device={device}", f"--entries={entries}", f"--rounds={rounds}"]
        variables = {"OMP_NUM_THREADS": "1", "TMPDIR": folder}
        if sys.platform == "linux":
            variables["GLOO_SOCKET_IFNAME"] = "lo"
        process = subprocess.Popen(
            [str(python), *torchrun, f"--nproc-per-node={ranks}", *module, *options],
            cwd=SOURCE,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout)
        except BaseException as error:
            process.send_signal(signal.SIGTERM)  # torchrun ends its processes
            try:
                output, _ = process.communicate(timeout=_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return from_output(output), f"{output}\nno result in {timeout:.0f} s"
        return from_output(output), output
