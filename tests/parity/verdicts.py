"""What the installed torch says of valid and invalid global plans.

``_validate_global_plan`` returns a list of messages, which a planner's error has too. With torch
2.11 it returns whether the plan is valid, logs the messages, and a planner's error has none.
"""

from __future__ import annotations

import re
from typing import Any

from shardplan.dcp.upstream.versions import validation_returns_messages

# The verdict on a valid plan.
VALID: Any = [] if validation_returns_messages() else True


def has_faults(verdict: Any, count: int) -> bool:
    """Returns whether a verdict reports this number of faults; a bool reports only if any exist."""
    if validation_returns_messages():
        return type(verdict) is list and len(verdict) == count
    return verdict is (count == 0)


def words_of_error(words: str) -> str:
    """Returns those of the words about a fault that a planner's error has: all, or none."""
    return words if validation_returns_messages() else "Failed to validate global plan"


def pattern_of_error(words: str) -> str:
    """Returns a pattern for a planner's error about a fault that upstream describes so."""
    if validation_returns_messages():
        return f"^Failed to validate global plan: key:.*{re.escape(words)}"
    return r"^Failed to validate global plan(\n|$)"
