"""Which command was asked for, and what becomes of its answer.

Status: 0 where all is well, 1 where a command found what it looks for (damage, a difference), 2
where it could not be done, 3 where shardplan itself failed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from types import ModuleType
from typing import Any

from .. import _build
from .display import streams
from .display.terminal import COLORS, Terminal, print_json
from .display.wording import counted, printable
from .failures import CommandError

_COMMANDS = ("ls", "inspect", "verify", "diff", "reshard", "simulate")
# Counts that a file invents can have more digits than Python turns into text by itself.
_MAX_DIGITS = 10_000


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its status."""
    given = sys.argv[1:] if arguments is None else arguments
    if not streams.prepare():
        streams.complain("shardplan: cannot write to stdout: it is closed")
        return 2
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(_MAX_DIGITS)
    try:
        return _answer(given)
    except KeyboardInterrupt:
        return 130
    except MemoryError:
        streams.complain("shardplan: there is not enough memory for this")
        return 2
    except Exception as error:
        if "--traceback" in given:
            for line in traceback.format_exc().splitlines():
                streams.complain(printable(line))
        streams.complain(
            f"shardplan: {printable(f'{type(error).__name__}: {error}')}: this is a defect of "
            f"shardplan; run with --traceback to see where"
        )
        return 3


def _answer(given: list[str]) -> int:
    try:
        parser, modules = _parser()
    except ImportError as error:
        streams.complain(f"shardplan: {printable(str(error))}")
        return 2
    try:
        options = parser.parse_args(given)
    except SystemExit as end:  # --help and --version were printed, or wrong usage was told
        return _written(int(end.code or 0))
    except BrokenPipeError:
        streams.abandon_stdout()
        return 0
    except OSError as error:
        return _unwritten(error)
    try:
        if options.command == "info":
            data, status = _info(options.check)
        else:
            data, status = modules[options.command].run(options)
        out = None if options.json else Terminal(options.color)
    except (CommandError, OSError) as error:
        streams.complain(f"shardplan {options.command}: {printable(str(error))}")
        return 2
    try:
        if out is None:
            print_json(data)
        elif options.command == "info":
            _show_info(data)
        else:
            modules[options.command].show(data, out, options)
    except BrokenPipeError:
        streams.abandon_stdout()  # whoever read us has gone (`| head`)
        return status
    except OSError as error:
        return _unwritten(error)
    return _written(status)


def _written(status: int) -> int:
    """The status of what was printed, once it is written: here, not when the interpreter ends."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        streams.abandon_stdout()
    except OSError as error:
        return _unwritten(error)
    return status


def _unwritten(error: OSError) -> int:
    streams.abandon_stdout()
    streams.complain(f"shardplan: cannot write to stdout: {error.strerror or error}")
    return 2


class _Parser(argparse.ArgumentParser):
    """One that does not hide that its help could not be written."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stdout:
            file.write(message)
        else:
            streams.complain(message.rstrip("\n"))


def _parser() -> tuple[argparse.ArgumentParser, dict[str, ModuleType]]:
    parser = _Parser(
        prog="shardplan",
        description="Looks at checkpoints of torch.distributed.checkpoint.",
        epilog="Status: 0 where all is well, 1 where damage or a difference was found, 2 where a "
        "command could not be done or its answer not be written, 3 where shardplan itself failed.",
    )
    parser.add_argument("--version", action="version", version=f"shardplan {_version()}")
    _add_global(parser, color="auto", traceback=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = _Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")
    # Not set again where they stand before the command.
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
    info = commands.add_parser(
        "info",
        parents=[shared],
        help="versions that this installation was built with, and that it finds",
        epilog="example:  shardplan info --check",
    )
    info.add_argument(
        "--check",
        action="store_true",
        help="save and load a small state dict here; status 1 if any of it fell back to upstream's "
        "code",
    )
    return parser, modules


def _add_global(parser: argparse.ArgumentParser, color: str, traceback: Any) -> None:
    parser.add_argument(
        "--color",
        choices=COLORS,
        default=color,
        help="colour on stdout; auto: on a terminal, unless NO_COLOR is set",
    )
    parser.add_argument(
        "--traceback",
        action="store_true",
        default=traceback,
        help="where shardplan itself fails, print where",
    )


def _version() -> str:
    return _build.build_info()["shardplan"]


def _info(check: bool) -> tuple[dict[str, Any], int]:
    problem = _build.check_installation()
    found = {"torch": _build.found_torch(), "python": _build.found_python()}
    data: dict[str, Any] = {"built": _build.build_info(), "found": found, "problem": problem}
    if problem or not check:
        return data, 1 if problem else 0
    from ..dcp.self_check import check as check_here  # which imports torch

    data["check"] = check_here()
    return data, 1 if data["check"]["fallbacks"] or data["check"]["differences"] else 0


def _show_info(data: dict[str, Any]) -> None:
    for name, value in data["built"].items():
        print(f"{name:<12}{value}")
    print(f"{'found torch':<12}{data['found']['torch'] or 'none'}")
    print(f"{'found python':<12} {data['found']['python']}")
    print(data["problem"] or "The native modules fit.")
    if "check" in data:
        _show_check(data["check"])


def _show_check(done: dict[str, Any]) -> None:
    if done["differences"]:
        print(f"Loaded with other values than were saved: {', '.join(done['differences'])}.")
    if not done["fallbacks"]:
        print(f"{counted(done['entries'], 'entry', 'entries')} saved and loaded natively.")
        return
    print("Upstream's code was used instead of shardplan's:")
    for reason, count in done["fallbacks"].items():
        print(f"{count:>6} x {reason}")
