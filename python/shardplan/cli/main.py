"""Parses the command line, runs a command and prints its result.

Exit status: 0 if all is well, 1 if a command found damage or a difference, 2 if a command could not
be done, 3 if shardplan itself failed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from types import ModuleType
from typing import Any

from .. import _build
from . import run
from .display import streams
from .display.terminal import COLORS, Terminal, print_json
from .display.wording import counted, printable
from .failures import CommandError

_COMMANDS = ("ls", "inspect", "verify", "repair", "diff", "reshard", "simulate")
# A broken file can contain integers of more digits than Python converts to text by default.
_MAX_DIGITS = 10_000


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the command line without the program name; default: ``sys.argv[1:]``.

    Returns:
        The exit status.
    """
    argv = sys.argv[1:] if arguments is None else arguments
    if argv[:1] == ["run"]:
        return run.main(argv[1:])  # a program of the user, with its own errors and output
    if not streams.prepare():
        streams.print_error("shardplan: cannot write to stdout: it is closed")
        return 2
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(_MAX_DIGITS)
    try:
        return _run(argv)
    except KeyboardInterrupt:
        return 130
    except MemoryError:
        streams.print_error("shardplan: out of memory")
        return 2
    except Exception as error:
        if "--traceback" in argv:
            for line in traceback.format_exc().splitlines():
                streams.print_error(printable(line))
        streams.print_error(
            f"shardplan: {printable(f'{type(error).__name__}: {error}')}: this is a bug in "
            f"shardplan; run with --traceback to print the traceback"
        )
        return 3


def _run(argv: list[str]) -> int:
    try:
        parser, modules = _parser()
    except ImportError as error:
        streams.print_error(f"shardplan: {printable(str(error))}")
        return 2
    try:
        options = parser.parse_args(argv)
    except SystemExit as end:  # help, version or a usage error has been printed
        return _flushed(int(end.code or 0))
    except BrokenPipeError:
        streams.abandon_stdout()
        return 0
    except OSError as error:
        return _write_failed(error)
    try:
        if options.command == "info":
            data, status = _info(options.check)
        else:
            data, status = modules[options.command].run(options)
        out = None if options.json else Terminal(options.color)
    except (CommandError, OSError) as error:
        streams.print_error(f"shardplan {options.command}: {printable(str(error))}")
        return 2
    try:
        if out is None:
            print_json(data)
        elif options.command == "info":
            _show_info(data)
        else:
            modules[options.command].show(data, out, options)
    except BrokenPipeError:
        streams.abandon_stdout()  # the reader has closed the pipe (`| head`)
        return status
    except OSError as error:
        return _write_failed(error)
    return _flushed(status)


def _flushed(status: int) -> int:
    """Flushes stdout and returns the status, or 2 if the output cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        streams.abandon_stdout()
    except OSError as error:
        return _write_failed(error)
    return status


def _write_failed(error: OSError) -> int:
    streams.abandon_stdout()
    streams.print_error(f"shardplan: cannot write to stdout: {error.strerror or error}")
    return 2


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises if its help cannot be written."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            file.write(message)
        else:
            streams.print_error(message.rstrip("\n"))


def _parser() -> tuple[argparse.ArgumentParser, dict[str, ModuleType]]:
    parser = _Parser(
        prog="shardplan",
        description="Inspects and repairs checkpoints of torch.distributed.checkpoint.",
        epilog="Exit status: 0 if all is well, 1 if damage or a difference was found, 2 if a "
        "command could not be done or its output not be written, 3 if shardplan itself failed.",
    )
    parser.add_argument("--version", action="version", version=f"shardplan {_version()}")
    _add_global(parser, color="auto", traceback=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = _Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    # SUPPRESS keeps the values of options that precede the command.
    _add_global(shared, color=argparse.SUPPRESS, traceback=argparse.SUPPRESS)
    modules = {}
    for name in _COMMANDS:
        module = modules[name] = importlib.import_module(f"{__package__}.commands.{name}")
        command = commands.add_parser(
            name,
            parents=[shared],
            help=module.HELP,
            description=f"{module.HELP[:1].upper()}{module.HELP[1:]}.",
            epilog=f"example:  {module.EXAMPLE}",
        )
        module.add_arguments(command)
    commands.add_parser("run", help=run.HELP, add_help=False)
    info = commands.add_parser(
        "info",
        parents=[shared],
        help="show the versions that shardplan was built with and those that it finds",
        epilog="example:  shardplan info --check",
    )
    info.add_argument(
        "--check",
        action="store_true",
        help="save and load a small state dict; status 1 if any of it fell back to upstream's code",
    )
    return parser, modules


def _add_global(parser: argparse.ArgumentParser, color: str, traceback: Any) -> None:
    parser.add_argument(
        "--color",
        choices=COLORS,
        default=color,
        help="whether to colour stdout; auto: only on a terminal and unless NO_COLOR is set",
    )
    parser.add_argument(
        "--traceback",
        action="store_true",
        default=traceback,
        help="print a traceback if shardplan itself fails",
    )


def _version() -> str:
    return _build.build_info()["shardplan"]


def _info(check: bool) -> tuple[dict[str, Any], int]:
    problem = _build.check_installation()
    found = {"torch": _build.found_torch(), "python": _build.found_python()}
    data: dict[str, Any] = {"built": _build.build_info(), "found": found, "problem": problem}
    if problem or not check:
        return data, 1 if problem else 0
    from ..dcp.self_check import check as check_here  # imports torch

    data["check"] = check_here()
    return data, 1 if data["check"]["fallbacks"] or data["check"]["differences"] else 0


def _show_info(data: dict[str, Any]) -> None:
    for name, value in data["built"].items():
        print(f"{name:<12}{value}")
    print(f"{'found torch':<12}{data['found']['torch'] or 'none'}")
    print(f"{'found python':<12} {data['found']['python']}")
    print(data["problem"] or "The native modules match.")
    if "check" in data:
        _show_check(data["check"])


def _show_check(report: dict[str, Any]) -> None:
    if report["differences"]:
        print(f"Loaded values differ from saved values: {', '.join(report['differences'])}.")
    if not report["fallbacks"]:
        print(f"{counted(report['entries'], 'entry', 'entries')} saved and loaded natively.")
        return
    print("Fallbacks to upstream's code:")
    for reason, count in report["fallbacks"].items():
        print(f"{count:>6} x {reason}")
