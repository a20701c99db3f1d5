"""``shardplan run`` and SHARDPLAN_REGISTER, in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPORT = """
    import os, sys

    def report(where):
        import torch.distributed.checkpoint.default_planner as upstream
        is_ours = upstream.create_default_local_save_plan.__module__.startswith("shardplan")
        path = os.path.join(os.environ["REPORTS"], where)
        with open(path, "x") as file:
            file.write(str(is_ours))
"""


def run(
    folder: Path, *command: str, variable: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "REPORTS": str(folder / "reports"), "GLOO_SOCKET_IFNAME": "lo"}
    environment.pop("SHARDPLAN_REGISTER", None)
    if variable is not None:
        environment["SHARDPLAN_REGISTER"] = variable
    (folder / "reports").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=folder,
    )


def reports(folder: Path) -> dict[str, bool]:
    """Returns whether each process that reported had shardplan registered."""
    return {file.name: file.read_text() == "True" for file in (folder / "reports").iterdir()}


def write(folder: Path, name: str, *texts: str) -> None:
    (folder / name).write_text("".join(textwrap.dedent(text) for text in texts))


STARTS_OTHERS = """
    import multiprocessing, subprocess
    from torch.distributed.checkpoint.default_planner import create_default_local_save_plan as held

    if __name__ == "__main__":
        assert sys.argv[1:] == ["--flag", "x"], sys.argv
        assert held.__module__.startswith("shardplan")
        report("main")
        for method in ("spawn", "fork"):
            process = multiprocessing.get_context(method).Process(target=report, args=(method,))
            process.start()
            process.join()
            assert process.exitcode == 0
        code = "import program; program.report('subprocess')"
        subprocess.run([sys.executable, "-c", code], check=True)
"""
EVERY = dict.fromkeys(("main", "spawn", "fork", "subprocess"), True)


@pytest.mark.parametrize("command", [["program.py"], ["-m", "program"]], ids=str)
def test_a_program_and_the_processes_that_it_starts(command: list[str], tmp_path: Path) -> None:
    write(tmp_path, "program.py", REPORT, STARTS_OTHERS)
    done = run(tmp_path, "-m", "shardplan", "run", *command, "--flag", "x")
    assert done.returncode == 0, done.stderr
    assert reports(tmp_path) == EVERY


def test_torchrun(tmp_path: Path) -> None:
    program = "report('rank' + os.environ['RANK'])\n"
    write(tmp_path, "program.py", REPORT, program)
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "program.py")
    done = run(tmp_path, "-m", "shardplan", "run", "-m", *launcher)
    assert done.returncode == 0, done.stderr
    assert reports(tmp_path) == {"rank0": True, "rank1": True}


def test_the_variable(tmp_path: Path) -> None:
    write(tmp_path, "program.py", REPORT, STARTS_OTHERS)
    done = run(tmp_path, "program.py", "--flag", "x", variable="1")
    assert done.returncode == 0, done.stderr
    assert reports(tmp_path) == EVERY


@pytest.mark.parametrize("variable", ["0", "false", "OFF"])
def test_the_variable_can_say_no(variable: str, tmp_path: Path) -> None:
    write(tmp_path, "program.py", REPORT, "report('main')")
    done = run(tmp_path, "program.py", variable=variable)
    assert (done.returncode, done.stderr) == (0, "")
    assert reports(tmp_path) == {"main": False}


@pytest.mark.parametrize("variable", [None, ""])
def test_nothing_is_imported_without_the_variable(variable: str | None, tmp_path: Path) -> None:
    code = "import sys; assert 'shardplan' not in sys.modules"
    done = run(tmp_path, "-c", code, variable=variable)
    assert (done.returncode, done.stderr) == (0, "")


def test_torch_is_not_imported_by_the_variable(tmp_path: Path) -> None:
    code = "import sys; assert 'shardplan' in sys.modules and 'torch' not in sys.modules"
    done = run(tmp_path, "-c", code, variable="1")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_value_that_is_neither_yes_nor_no(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", "print('runs')", variable="maybe")
    assert done.stdout == "runs\n"
    assert "SHARDPLAN_REGISTER is 'maybe', which is neither 1 nor 0" in done.stderr


def test_an_installation_that_does_not_match(tmp_path: Path) -> None:
    """The program goes on with upstream's code, and a warning says why."""
    program = """
        import shardplan._build
        shardplan._build.check_installation = lambda: "built for another torch"
        report("main")
    """
    write(tmp_path, "program.py", REPORT, program)
    done = run(tmp_path, "program.py", variable="1")
    assert done.returncode == 0, done.stderr
    assert "shardplan is not registered: built for another torch" in done.stderr
    assert reports(tmp_path) == {"main": False}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "usage: shardplan run SCRIPT"),
        (["missing.py"], "there is no file missing.py"),
        (["-m", "missing_module"], "there is no module missing_module"),
        (["-m", "missing_module.inner"], "there is no module missing_module.inner"),
        (["-m", ""], "there is no module"),
        (["-m"], "-m needs the name of a module"),
        (["--unknown"], "unknown option --unknown"),
        (["\x1b[31m.py"], "there is no file \\x1b[31m.py"),
    ],
    ids=str,
)
def test_nothing_to_run(arguments: list[str], text: str, tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "shardplan", "run", *arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_help(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "shardplan", "run", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: shardplan run SCRIPT")
    assert "run a Python script or module" in " ".join(
        run(tmp_path, "-m", "shardplan", "--help").stdout.split()
    )


@pytest.mark.parametrize(
    ("program", "status", "text"),
    [
        ("raise SystemExit(5)", 5, ""),
        ("raise SystemExit('no')", 1, "no"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", 1, "KeyboardInterrupt"),
        ("def f(:", 1, "SyntaxError"),
        ("import torch.distributed.checkpoint; 1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_the_end_of_a_program_is_its_own(
    program: str, status: int, text: str, tmp_path: Path
) -> None:
    write(tmp_path, "program.py", program)
    done = run(tmp_path, "-m", "shardplan", "run", "program.py")
    plain = run(tmp_path, "program.py")
    assert done.returncode == plain.returncode
    assert status in (done.returncode, 1)
    assert text in done.stderr
    assert "a bug in shardplan" not in done.stderr


def test_a_script_finds_the_modules_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder", "beside.py", "value = 5")
    write(tmp_path / "folder", "program.py", "import beside; print(beside.value, __file__)")
    done = run(tmp_path, "-m", "shardplan", "run", "folder/program.py")
    assert done.stdout.startswith("5 "), done.stderr


def test_a_package_and_a_directory(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    write(tmp_path / "package", "__init__.py", "")
    write(tmp_path / "package", "__main__.py", "print('main of', __name__)")
    for arguments in (["-m", "package"], ["package"]):
        done = run(tmp_path, "-m", "shardplan", "run", *arguments)
        assert done.stdout == "main of __main__\n", done.stderr
