"""``shardplan run``: runs a script or a module with shardplan registered."""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys

from .. import startup
from .._build import check_installation
from .display import streams
from .display.wording import printable

HELP = "run a Python script or module, and all processes that it starts, with shardplan registered"
USAGE = """usage: shardplan run SCRIPT [ARGUMENT ...]
       shardplan run -m MODULE [ARGUMENT ...]

Runs a Python script or module as python does. When it imports torch.distributed.checkpoint, and
when a process that it starts does, shardplan is registered.

example:  shardplan run -m torch.distributed.run --nproc-per-node 8 train.py --config c.toml"""


def main(arguments: list[str]) -> int:
    """Runs a program in this process, with its own ``sys.argv``.

    Args:
        arguments: the command line after ``run``.

    Returns:
        0, or 2 if there is nothing to run. The program's exceptions, SystemExit included, pass.
    """
    if not arguments:
        return _fail(USAGE)
    if arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    is_module = arguments[0] == "-m"
    if is_module and len(arguments) < 2:
        return _fail("shardplan run: -m needs the name of a module")
    if not is_module and arguments[0].startswith("-"):
        return _fail(f"shardplan run: unknown option {printable(arguments[0])}\n{USAGE}")
    problem = check_installation()
    if problem is not None:
        return _fail(f"shardplan run: {problem}")
    name, *rest = arguments[1:] if is_module else arguments
    if is_module:
        # Python puts the current directory first for a module, and the script's for a script.
        sys.path[0] = os.getcwd()
        if not _is_module(name):
            return _fail(f"shardplan run: there is no module {printable(name)}")
    elif not os.path.exists(name):
        return _fail(f"shardplan run: there is no file {printable(name)}")
    os.environ[startup.VARIABLE] = "1"
    startup.register_when_imported()
    sys.argv = [name, *rest]
    if is_module:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        if not os.path.isdir(name):
            sys.path[0] = os.path.dirname(os.path.abspath(name))
        runpy.run_path(name, run_name="__main__")
    return 0


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _fail(text: str) -> int:
    streams.print_error(text)
    return 2
