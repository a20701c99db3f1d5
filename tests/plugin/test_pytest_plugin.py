"""The pytest plugin, in real pytest runs on small test files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .plugin_runs import SAVE, counted, run, write

CALLS_OF_A_SAVE = {
    "shardplan.default_planner.create_default_local_save_plan": 1,
    "shardplan.default_planner._validate_global_plan": 1,
    "shardplan.default_planner.create_default_global_save_plan": 1,
    "shardplan.default_planner.dedup_save_plans": 1,
    "shardplan.dcp.twins.state_dicts._flatten_sharded_tensors": 1,
    "shardplan.dcp.twins.state_dicts.flatten_state_dict": 1,
    "shardplan.dcp.planners.coordinator.create_global_plan": 1,
    "shardplan.dcp.planners.coordinator.finish_plan": 1,
    "shardplan.dcp.planners.coordinator.set_up_planner": 1,
    "shardplan.dcp.storage.filesystem.finish": 1,
    "shardplan.dcp.storage.filesystem.prepare_global_plan": 1,
    "shardplan.dcp.storage.filesystem.storage_meta": 2,
    "shardplan.dcp.storage.tensor_writing.write_data": 1,
}


def times(count: int) -> dict[str, int]:
    return {name: calls * count for name, calls in CALLS_OF_A_SAVE.items()}


def test_test_files_and_conftests_import_the_twins(tmp_path: Path) -> None:
    write(
        tmp_path,
        "conftest.py",
        """
        from torch.distributed.checkpoint.planner_helpers import _create_chunk_list
        assert _create_chunk_list.__module__ == "shardplan.dcp.twins.planner_helpers"
        """,
    )
    write(
        tmp_path,
        "test_here.py",
        SAVE,
        """
        def test_held():
            assert held.__module__ == "shardplan.dcp.twins.default_planner"
            assert list(inspect.signature(held).parameters) == ["state_dict", "is_coordinator"]

        def test_save(tmp_path):
            save(tmp_path / "1")
            save(tmp_path / "2")
        """,
    )
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert counted(done.stdout) == (times(2), 1)


def test_spawned_processes(tmp_path: Path) -> None:
    write(
        tmp_path,
        "test_children.py",
        SAVE,
        """
        import pytest

        def save_and_exit(path):
            save(path)
            os._exit(7)

        def save_and_be_killed(path):
            save(path)
            os.kill(os.getpid(), signal.SIGKILL)

        @pytest.mark.parametrize(
            ("method", "end"),
            [("spawn", save_and_exit), ("fork", save_and_be_killed), ("forkserver", save_and_exit)],
        )
        def test_multiprocessing(tmp_path, method, end):
            process = multiprocessing.get_context(method).Process(target=end, args=(tmp_path,))
            process.start()
            process.join(60)
            assert process.exitcode == (7 if end is save_and_exit else -signal.SIGKILL)

        def test_subprocess(tmp_path):
            program = "import sys, test_children; test_children.save_and_exit(sys.argv[1])"
            assert subprocess.run([sys.executable, "-c", program, tmp_path]).returncode == 7
        """,
    )
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert counted(done.stdout) == (times(4), 4)


def test_a_forked_child_counts_separately_from_its_parent(tmp_path: Path) -> None:
    write(
        tmp_path,
        "test_fork.py",
        SAVE,
        """
        def test_fork(tmp_path):
            save(tmp_path / "parent")
            child = os.fork()
            if child == 0:
                save(tmp_path / "child")
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            save(tmp_path / "parent again")
        """,
    )
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert counted(done.stdout) == (times(3), 2)


NO_TORCH = """
    import subprocess, sys

    def test_without_torch():
        assert "torch" not in sys.modules
        program = "import sys; sys.exit('torch' in sys.modules or 'shardplan' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", program]).returncode == 0
"""


def test_a_run_without_calls_of_shardplan_fails(tmp_path: Path) -> None:
    write(tmp_path, "test_none.py", NO_TORCH)
    done = run(tmp_path)
    assert "1 passed" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert counted(done.stdout) == ({}, 0)
    assert "ERROR: none of shardplan's functions was called" in done.stdout


def test_collection_only_does_not_fail(tmp_path: Path) -> None:
    write(tmp_path, "test_none.py", NO_TORCH)
    done = run(tmp_path, "--collect-only")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR" not in done.stdout


def test_other_exit_codes_are_kept(tmp_path: Path) -> None:
    assert run(tmp_path).returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert run(tmp_path, "--no-such-option").returncode == pytest.ExitCode.USAGE_ERROR
    assert os.listdir(tmp_path / "t") == []


def test_a_conftest_can_name_the_plugin(tmp_path: Path) -> None:
    write(tmp_path, "conftest.py", 'pytest_plugins = ["shardplan.pytest_plugin"]')
    write(tmp_path, "test_none.py", NO_TORCH)
    done = run(tmp_path, plugin=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "ERROR: none of shardplan's functions was called" in done.stdout


def test_the_users_sitecustomize_and_python_path_still_work(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.mkdir()
    write(
        users,
        "sitecustomize.py",
        """
        import builtins
        builtins.users_sitecustomize = __file__
        """,
    )
    write(users, "users_module.py", "value = 3")
    program = (
        "import sitecustomize, sys, users_module; "
        "assert sitecustomize.__file__ == users_sitecustomize, sitecustomize; "
        "assert not [entry for entry in sys.path if 'shardplan-pytest-' in entry]; "
        "print(users_sitecustomize)"
    )
    write(
        tmp_path,
        "test_sitecustomize.py",
        f"""
        import subprocess, sys

        def test_in_a_child():
            out = subprocess.check_output([sys.executable, "-c", {program!r}], text=True)
            assert out.strip() == {str(users / "sitecustomize.py")!r}
        """,
    )
    done = run(tmp_path, env={"PYTHONPATH": str(users)})
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_process_is_restored_after_the_run(tmp_path: Path) -> None:
    write(tmp_path, "test_here.py", SAVE, "def test_save(tmp_path): save(tmp_path)")
    write(
        tmp_path,
        "embedding.py",
        """
        import os, sys
        import pytest

        assert "PYTHONPATH" not in os.environ
        arguments = ["-p", "shardplan.pytest_plugin", "-p", "no:cacheprovider", "test_here.py"]
        assert pytest.main(arguments) == 0

        from torch.distributed.checkpoint import default_planner
        upstream = default_planner.create_default_local_save_plan
        assert upstream.__module__ == default_planner.__name__, upstream
        assert "PYTHONPATH" not in os.environ
        assert "AfterImport" not in [type(finder).__name__ for finder in sys.meta_path]
        left = [name for name in os.listdir(os.environ["TMPDIR"]) if name.startswith("shardplan")]
        assert left == [], left
        print("nothing left")
        """,
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = {**os.environ, "TMPDIR": str(temporary)}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "embedding.py"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.endswith("nothing left\n"), done.stdout + done.stderr


def test_fallbacks_of_every_process_are_printed(tmp_path: Path) -> None:
    write(
        tmp_path,
        "test_fallbacks.py",
        SAVE,
        """
        class Unusual(torch.Tensor):
            pass

        def save_odd(path):
            unusual = torch.ones(2).as_subclass(Unusual)
            dcp.save({"a": torch.ones(2), "s": unusual}, checkpoint_id=path, no_dist=True)
            os._exit(0)

        def test_child(tmp_path):
            process = multiprocessing.get_context("spawn").Process(
                target=save_odd, args=(tmp_path,))
            process.start()
            process.join(60)
            assert process.exitcode == 0

        def test_here(tmp_path):
            save(tmp_path)
        """,
    )
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    at = lines.index("2 fallbacks to upstream's code")
    assert lines[at + 1 : at + 3] == [
        "1 local save plan: an entry is a test_fallbacks.Unusual",
        "1 write data: the tensor is not a plain one on CPU or CUDA",
    ]
