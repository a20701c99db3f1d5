"""The runner of PyTorch's tests, on a small checkout with tests of our own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from . import outcomes

ROOT = Path(__file__).parents[2]
TESTS = """
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import default_planner
    from torch.testing._internal.common_distributed import skip_if_lt_x_gpu
    from torch.testing._internal.common_utils import TestCase
    from torch.testing._internal.distributed._shard.sharded_tensor import (
        ShardedTensorTestBase,
        with_comms,
    )

    class TestSave(TestCase):
        def test_passes(self):
            import tempfile
            with tempfile.TemporaryDirectory() as path:
                dcp.save({"a": torch.ones(3)}, checkpoint_id=path, no_dist=True)

        def test_fails(self):
            raise KeyError("on upstream, too")

        def test_differs_if_registered(self):
            function = default_planner.create_default_local_save_plan
            assert function.__module__.startswith("torch."), "not upstream's"

        def test_differs_with_classes(self):
            if not dcp.FileSystemReader.__module__.startswith("torch."):
                raise OSError("not upstream's")

        def test_needs_cuda(self):
            torch.ones(1, device="cuda")

    class TestProcesses(ShardedTensorTestBase):
        world_size = 2

        @with_comms(init_rpc=False)
        @skip_if_lt_x_gpu(2)
        def test_for_two_gpus(self):
            assert dist.get_backend() == "gloo"
            assert torch.accelerator.current_accelerator().type == "cpu"
            torch.cuda.set_device(self.rank)
"""


def make_checkout(folder: Path, version: str | None = None) -> Path:
    tests = folder / "test" / "distributed" / "checkpoint"
    tests.mkdir(parents=True)
    (folder / "version.txt").write_text(f"{version or torch.__version__.split('+')[0]}a0\n")
    (tests / "test_small.py").write_text(textwrap.dedent(TESTS))
    return folder


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.pytorch", *arguments],
        cwd=ROOT,
        env={**os.environ, "SHARDPLAN_REGISTER": "1"},  # upstream is upstream all the same
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_the_differences_are_found_and_no_others(tmp_path: Path) -> None:
    done = run(make_checkout(tmp_path), "test_small.py")
    assert done.returncode == 1, done.stdout + done.stderr
    case = "distributed.checkpoint.test_small.TestSave::"
    _, _, listed = done.stdout.partition("3 differences\n")
    assert listed.splitlines() == [
        f"  {case}test_differs_if_registered: passed, failed AssertionError with registered",
        f"  {case}test_differs_if_registered: passed, failed AssertionError with classes",
        f"  {case}test_differs_with_classes: passed, failed OSError with classes",
    ], done.stdout + done.stderr
    # test_for_two_gpus is one of them, and test_needs_cuda is the one that is skipped.
    assert "\nupstream    1 failed, 4 passed, 1 skipped\n" in done.stdout
    assert "\nclasses     3 failed, 2 passed, 1 skipped\n" in done.stdout
    assert " shardplan.default_planner.create_default_local_save_plan\n" in done.stdout


def test_outcomes_that_agree_and_a_file_that_hangs(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path)
    tests = checkout / "test" / "distributed" / "checkpoint"
    (tests / "test_small.py").write_text("def test_nothing(): pass\n")
    done = run(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("0 differences\n")
    (tests / "test_small.py").write_text("import time\ntime.sleep(600)\n")
    done = run(checkout, "--timeout", "3")
    assert "upstream    1 without a report\n" in done.stdout, done.stdout + done.stderr


def test_a_checkout_of_another_version(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path, "1.2.3")
    done = run(checkout)
    assert done.returncode == 2
    assert "the checkout is PyTorch 1.2.3a0, but torch" in done.stderr
    tests = checkout / "test" / "distributed" / "checkpoint"
    (tests / "test_small.py").write_text("def test_nothing(): pass\n")
    assert run(checkout, "--any-version").returncode == 0


def test_a_folder_without_tests_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert "is not a checkout of PyTorch" in done.stderr


@pytest.mark.parametrize(
    ("message", "detail", "expected"),
    [
        ("ValueError: a", "", "ValueError"),
        ("torch.distributed.checkpoint.api.CheckpointException: a: b", "", None),
        ("AssertionError", "", "AssertionError"),
        (
            "RuntimeError: Process 0 exited with error code 10 and exception:",
            "RuntimeError: Process 0 exited with error code 10 and exception:\n"
            "Traceback (most recent call last):\n"
            '  File "a.py", line 1, in f\n'
            "KeyError: 'a'\n",
            "KeyError",
        ),
    ],
)
def test_exception_type(message: str, detail: str, expected: str | None) -> None:
    found = outcomes.exception_type(message, detail or message)
    assert found == (expected or "torch.distributed.checkpoint.api.CheckpointException")
