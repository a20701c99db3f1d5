"""``python -m shardplan info``: what this installation was built with and what it finds now."""

from __future__ import annotations

import argparse

from ._build import build_info, found_python, found_torch, misfit


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m shardplan", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="print versions, built with and found")
    parser.parse_args()
    for name, value in build_info().items():
        print(f"{name:<12}{value}")
    print(f"{'found torch':<12}{found_torch() or 'none'}")
    print(f"{'found python':<12} {found_python()}")
    problem = misfit()
    print(problem or "The native modules fit.")
    return 1 if problem else 0


if __name__ == "__main__":
    raise SystemExit(main())
