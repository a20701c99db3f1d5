"""A rank without shardplan in a world whose other ranks have it: all fail at once and say why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

SIZE = 3
# Seconds after which a rank is taken to hang. gloo waits for half an hour.
PATIENCE = 100

SCRIPT = """
    import importlib.machinery, json, os, sys
    from pathlib import Path

    step, folder, rank, missing = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    if rank == missing:
        find = importlib.machinery.PathFinder.find_spec
        importlib.machinery.PathFinder.find_spec = lambda name, *rest: (
            None if name.split(".")[0] == "shardplan" else find(name, *rest)
        )
    import torch, torch.distributed as dist, torch.distributed.checkpoint as dcp

    dist.init_process_group(
        "gloo", store=dist.FileStore(str(folder / "store"), 3), rank=rank, world_size=3
    )
    state = {f"w{i}": torch.full((3,), float(rank)) for i in range(rank, 3)}
    if step == "load":  # saved by upstream, on all ranks
        dcp.save(state, checkpoint_id=folder / "checkpoint")
    if rank != missing:
        import shardplan
        shardplan.register()
    answer = {}
    try:
        getattr(dcp, step)(state, checkpoint_id=folder / "checkpoint")
    except BaseException as error:
        failures = getattr(error, "failures", {})
        answer = {
            "type": type(error).__name__,
            "failed": {rank: f"{type(e[0]).__name__}: {e[0]}" for rank, e in failures.items()},
        }
    (folder / f"answer {rank}").write_text(json.dumps(answer))
    os._exit(0)
"""


def run(step: str, folder: Path, missing: int) -> list[dict[str, Any]]:
    """Returns what each rank raised."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    environment.pop("SHARDPLAN_REGISTER", None)
    ranks = [
        subprocess.Popen(
            [sys.executable, script, step, folder, str(rank), str(missing)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(SIZE)
    ]
    try:
        for rank in ranks:
            _, errors = rank.communicate(timeout=PATIENCE)
            assert rank.returncode == 0, errors
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    return [json.loads((folder / f"answer {rank}").read_text()) for rank in range(SIZE)]


@pytest.mark.parametrize("missing", [0, 1], ids=["coordinator", "another"])
@pytest.mark.parametrize("step", ["save", "load"])
def test_every_rank_fails_at_once(tmp_path: Path, step: str, missing: int) -> None:
    # A coordinator does not read the load plans, and sends them back as it has unpickled them.
    failing = {"1", "2"} if (step, missing) == ("load", 0) else {str(missing)}
    for answer in run(step, tmp_path, missing):
        assert answer["type"] == "CheckpointException", answer
        assert set(answer["failed"]) == failing
        for text in answer["failed"].values():
            assert text.startswith("ModuleNotFoundError: No module named 'shardplan, which rank ")
            assert "install it on every rank" in text
    if step == "save":
        assert not (tmp_path / "checkpoint" / ".metadata").exists()
