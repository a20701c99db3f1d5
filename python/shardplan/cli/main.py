"""Which command was asked for, and what becomes of its answer.

Status: 0 where all is well, 1 where a command found what it looks for (damage, a difference), 2
where it could not be done.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from types import ModuleType

from .. import _build
from .failures import Refused
from .terminal import Terminal, print_json

_COMMANDS = ("inspect", "verify", "diff", "reshard", "simulate")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its status."""
    parser, modules = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "info":
            return _info(options.json)
        module = modules[options.command]
        data, status = module.run(options)
        if options.json:
            print_json(data)
        else:
            module.show(data, Terminal(), options)
        sys.stdout.flush()
        return int(status)
    except Refused as error:
        print(f"shardplan {options.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read us has gone (`| head`); nothing is left to be told at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> tuple[argparse.ArgumentParser, dict[str, ModuleType]]:
    parser = argparse.ArgumentParser(
        prog="shardplan", description="Looks at checkpoints of torch.distributed.checkpoint."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    json_option = argparse.ArgumentParser(add_help=False)
    json_option.add_argument("--json", action="store_true", help="print JSON")
    modules = {}
    for name in _COMMANDS:
        module = modules[name] = importlib.import_module(f"{__package__}.{name}")
        command = commands.add_parser(
            name,
            parents=[json_option],
            help=module.HELP,
            description=f"{module.HELP[:1].upper()}{module.HELP[1:]}.",
            epilog=f"example:  {module.EXAMPLE}",
        )
        module.add_arguments(command)
    commands.add_parser(
        "info",
        parents=[json_option],
        help="versions that this installation was built with, and that it finds",
        epilog="example:  shardplan info",
    )
    return parser, modules


def _info(as_json: bool) -> int:
    problem = _build.misfit()
    found = {"torch": _build.found_torch(), "python": _build.found_python()}
    if as_json:
        print_json({"built": _build.build_info(), "found": found, "problem": problem})
        return 1 if problem else 0
    for name, value in _build.build_info().items():
        print(f"{name:<12}{value}")
    print(f"{'found torch':<12}{found['torch'] or 'none'}")
    print(f"{'found python':<12} {found['python']}")
    print(problem or "The native modules fit.")
    return 1 if problem else 0
