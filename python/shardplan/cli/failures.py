"""Why a command cannot do what it was asked."""

from __future__ import annotations

INSTALL = "pip install 'shardplan[cli]'"


class CommandError(Exception):
    """What a person is told in a line; the command ends with status 2."""
