"""A pytest plugin that runs tests of torch.distributed.checkpoint with shardplan registered.

``pytest -p shardplan.pytest_plugin FILE...`` registers shardplan before test files are imported and
in every process that the tests start: by fork, by multiprocessing's spawn and forkserver, and as a
subprocess of the same Python. A subprocess that ignores PYTHONPATH, or whose environment lacks
it, runs upstream's code. The plugin does not import torch by itself.

At the end, the plugin prints the number of calls of shardplan's functions and the fallbacks to
upstream's code, and writes them into the file of ``--junit-xml`` as properties of the test suite:
``shardplan.calls:FUNCTION``, ``shardplan.fallbacks:REASON`` and ``shardplan.processes``. A run
without such calls fails, unless ``--shardplan-allow-no-calls`` is given.

``--shardplan-classes`` also puts shardplan's planners, readers and writers under upstream's names,
in every module of torch.distributed.checkpoint. Upstream's subclasses keep their bases. Methods of
shardplan's classes are not counted; the functions that they look up in upstream's modules are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections import Counter

import pytest
from _pytest.junitxml import xml_key

from .testing import call_count, sitecustomize_of_child

_RUN = pytest.StashKey["_RegisteredRun"]()


class _RegisteredRun:
    """Registers shardplan in this process and in processes that it starts, until closed."""

    def __init__(self, *, classes: bool) -> None:
        self.calls: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self.processes = 0
        self._installed = False
        self._folder = tempfile.mkdtemp(prefix="shardplan-pytest-")
        shutil.copy(sitecustomize_of_child.__file__, os.path.join(self._folder, "sitecustomize.py"))
        if classes:
            call_count.ask_for_classes(self._folder)
        self._python_path = os.environ.get("PYTHONPATH")
        entries = [self._folder, self._python_path] if self._python_path else [self._folder]
        os.environ["PYTHONPATH"] = os.pathsep.join(entries)
        self._finder = sitecustomize_of_child.AfterImport(sitecustomize_of_child.DCP, self._install)
        sys.meta_path.insert(0, self._finder)
        if sitecustomize_of_child.DCP in sys.modules:
            self._install()

    def _install(self) -> None:
        call_count.install(self._folder)
        self._installed = True

    def read_calls(self) -> None:
        self.calls, self.processes = call_count.read(self._folder)
        self.fallbacks = call_count.read_fallbacks(self._folder)

    def close(self) -> None:
        if self._installed:
            from .dcp import fallbacks
            from .dcp.registration import registry
            from .testing import classes

            classes.uninstall()
            registry.unregister()
            fallbacks.observe(None)
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self._finder)
        if self._python_path is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = self._python_path
        shutil.rmtree(self._folder, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("shardplan")
    group.addoption(
        "--shardplan-classes",
        action="store_true",
        help="put shardplan's planners, readers and writers under upstream's names",
    )
    group.addoption(
        "--shardplan-allow-no-calls",
        action="store_true",
        help="pass even if none of shardplan's functions was called",
    )


def _start(config: pytest.Config, *, classes: bool) -> None:
    # A worker of pytest-xdist is a process that the run started, so it is already counted.
    if _RUN in config.stash or "PYTEST_XDIST_WORKER" in os.environ:
        return
    run = config.stash[_RUN] = _RegisteredRun(classes=classes)
    config.add_cleanup(run.close)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    _start(early_config, classes=early_config.known_args_namespace.shardplan_classes)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # If a conftest names this plugin, the hook above was not called.
    _start(config, classes=config.getoption("shardplan_classes"))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash.get(_RUN, None)
    if run is None:
        return
    run.read_calls()
    _add_properties(session.config, run)
    if _fails(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _add_properties(config: pytest.Config, run: _RegisteredRun) -> None:
    # The hook that writes the file runs later. pytest offers this only to fixtures of a session.
    xml = config.stash.get(xml_key, None)
    if xml is None:
        return
    xml.add_global_property("shardplan.processes", run.processes)
    for kind, counts in (("calls", run.calls), ("fallbacks", run.fallbacks)):
        for name, count in counts.most_common():
            xml.add_global_property(f"shardplan.{kind}:{name}", count)


def _fails(config: pytest.Config) -> bool:
    return not (
        config.stash[_RUN].calls
        or config.getoption("collectonly")
        or config.getoption("shardplan_allow_no_calls")
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    run = config.stash.get(_RUN, None)
    if run is None:
        return
    terminalreporter.section("shardplan")
    terminalreporter.line(
        f"{run.calls.total()} calls of shardplan's functions in {run.processes} processes"
    )
    for name, count in run.calls.most_common():
        terminalreporter.line(f"{count:>10} {name}")
    terminalreporter.line(f"{run.fallbacks.total()} fallbacks to upstream's code")
    for reason, count in run.fallbacks.most_common():
        terminalreporter.line(f"{count:>10} {reason}")
    if _fails(config):
        terminalreporter.line(
            "ERROR: none of shardplan's functions was called, so these tests do not test it",
            red=True,
        )
