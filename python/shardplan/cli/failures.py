"""The error of a command that cannot be done."""

from __future__ import annotations

INSTALL = "pip install 'shardplan[cli]'"


class CommandError(Exception):
    """An error whose message is printed in one line. The command exits with status 2."""
