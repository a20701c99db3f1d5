"""The options of the pytest plugin, and what it writes into the file of --junit-xml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .plugin_runs import SAVE, counted, run, write

# Every module that holds one of the names holds the class whose module is {package}.
CLASSES = """
    import importlib, multiprocessing, subprocess, sys
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter, format_utils
    from torch.distributed.checkpoint import default_planner, optimizer, state_dict_saver

    PLACES = {
        "": ("DefaultLoadPlanner", "DefaultSavePlanner", "FileSystemReader", "FileSystemWriter"),
        ".default_planner": ("DefaultLoadPlanner", "DefaultSavePlanner"),
        ".filesystem": ("FileSystemReader", "FileSystemWriter"),
        ".hf_storage": ("HuggingFaceStorageReader", "HuggingFaceStorageWriter"),
        "._fsspec_filesystem": ("FsspecReader", "FsspecWriter"),
        ".state_dict_saver": ("DefaultSavePlanner",),
        ".state_dict_loader": ("DefaultLoadPlanner",),
        ".optimizer": ("DefaultLoadPlanner",),
    }

    def check(expected):
        for suffix, names in PLACES.items():
            module = importlib.import_module(dcp.__name__ + suffix)
            for name in names:
                package = getattr(module, name).__module__.split(".")[0]
                assert package == expected, (module, name, package)
        assert FileSystemReader is dcp.FileSystemReader
        for subclass in (optimizer._ReaderWithOffset, format_utils.DynamicMetaLoadPlanner):
            assert subclass.__base__.__module__ == default_planner.__name__
"""
IN_ALL_PROCESSES = """
    import pytest

    def test_here():
        check(EXPECTED)

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_multiprocessing(method):
        process = multiprocessing.get_context(method).Process(target=check, args=(EXPECTED,))
        process.start()
        process.join(60)
        assert process.exitcode == 0

    def test_subprocess():
        program = "import sys, test_classes; test_classes.check(sys.argv[1])"
        assert subprocess.run([sys.executable, "-c", program, EXPECTED]).returncode == 0
"""


@pytest.mark.parametrize(
    ("options", "expected"), [(["--shardplan-classes"], "shardplan"), ([], "torch")]
)
def test_classes(tmp_path: Path, options: list[str], expected: str) -> None:
    write(tmp_path, "test_classes.py", CLASSES, f"EXPECTED = {expected!r}", IN_ALL_PROCESSES)
    done = run(tmp_path, "--shardplan-allow-no-calls", *options)
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_a_conftest_that_names_the_plugin_can_have_classes(tmp_path: Path) -> None:
    write(tmp_path, "conftest.py", 'pytest_plugins = ["shardplan.pytest_plugin"]')
    write(tmp_path, "test_classes.py", CLASSES, "EXPECTED = 'shardplan'", IN_ALL_PROCESSES)
    done = run(tmp_path, "--shardplan-allow-no-calls", "--shardplan-classes", plugin=False)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_a_save_and_a_load_run_with_the_classes(tmp_path: Path) -> None:
    write(
        tmp_path,
        "test_save.py",
        SAVE,
        """
        def test_save(tmp_path):
            planner, writer = dcp.DefaultSavePlanner(), dcp.FileSystemWriter(tmp_path)
            dcp.save({"a": torch.ones(3)}, storage_writer=writer, planner=planner, no_dist=True)
            into = {"a": torch.zeros(3)}
            reader = dcp.FileSystemReader(tmp_path)
            dcp.load(into, storage_reader=reader, planner=dcp.DefaultLoadPlanner(), no_dist=True)
            assert into["a"].tolist() == [1, 1, 1]
        """,
    )
    done = run(tmp_path, "--shardplan-classes")
    assert done.returncode == 0, done.stdout + done.stderr


def test_upstreams_classes_are_restored_after_the_run(tmp_path: Path) -> None:
    write(tmp_path, "test_save.py", SAVE, "def test_save(tmp_path): save(tmp_path)")
    write(
        tmp_path,
        "embedding.py",
        CLASSES,
        """
        import pytest

        arguments = ["-p", "shardplan.pytest_plugin", "--shardplan-classes", "test_save.py"]
        assert pytest.main([*arguments, "-p", "no:cacheprovider"]) == 0
        check("torch")
        print("restored")
        """,
    )
    done = subprocess.run(
        [sys.executable, "embedding.py"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.endswith("restored\n"), done.stdout + done.stderr


def test_a_run_without_calls_passes_if_allowed(tmp_path: Path) -> None:
    write(tmp_path, "test_none.py", "def test_nothing(): pass")
    assert run(tmp_path).returncode == pytest.ExitCode.TESTS_FAILED
    done = run(tmp_path, "--shardplan-allow-no-calls")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR" not in done.stdout
    assert counted(done.stdout) == ({}, 0)


def test_failures_fail_even_if_no_calls_are_allowed(tmp_path: Path) -> None:
    write(tmp_path, "test_fails.py", "def test_fails(): assert False")
    done = run(tmp_path, "--shardplan-allow-no-calls")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED


def test_counts_are_properties_of_the_test_suite(tmp_path: Path) -> None:
    write(
        tmp_path,
        "test_save.py",
        SAVE,
        """
        class Unusual(torch.Tensor):
            pass

        def test_save(tmp_path):
            save(tmp_path)
            unusual = {"s": torch.ones(2).as_subclass(Unusual)}
            dcp.save(unusual, checkpoint_id=tmp_path / "2", no_dist=True)
        """,
    )
    done = run(tmp_path, "--junit-xml=out.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    by_name, processes = counted_without_fallbacks(done.stdout)
    found = {
        element.attrib["name"]: int(element.attrib["value"])
        for element in ElementTree.parse(tmp_path / "out.xml").iterfind("testsuite/properties/*")
    }
    calls = {name: count for name, count in found.items() if name.startswith("shardplan.calls:")}
    assert calls == {f"shardplan.calls:{name}": count for name, count in by_name.items()}
    assert found["shardplan.processes"] == processes == 1
    reason = "local save plan: an entry is a test_save.Unusual"
    assert found[f"shardplan.fallbacks:{reason}"] == 1


def counted_without_fallbacks(output: str) -> tuple[dict[str, int], int]:
    lines = output.splitlines(keepends=True)
    end = next(i for i, line in enumerate(lines) if "fallbacks to upstream's code" in line)
    return counted("".join(lines[:end]))
