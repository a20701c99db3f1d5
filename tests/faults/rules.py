"""What must hold after a fault, for shardplan."""

from __future__ import annotations

from .checkpoint import ATOMIC, DEADLINE, WITH_DEADLINE
from .fault import SLOW_ACTIONS, Fault
from .world import PATIENCE, Outcome

#: Seconds that a busy machine may add.
SLACK = 6.0

#: Operation -> what may be in the directory afterwards.
_ALLOWED = {
    "save": {"none", "new"},
    # A save removes the metadata of the checkpoint that it overwrites (ADR 7).
    "overwrite": {"old", "none", "new"},
    "load": {"old"},
}


def broken(fault: Fault, variant: str, outcome: Outcome, torchs: Outcome) -> list[str]:
    """Returns the rules that an outcome breaks, in words.

    Args:
        torchs: the outcome of the same fault with torch alone.
    """
    survivors = [end for rank, end in enumerate(outcome.ranks) if rank != fault.rank]
    victim = outcome.ranks[fault.rank]
    found = []
    for rank, end in enumerate(outcome.ranks):
        if end.how not in ("returned", "raised", "killed", "stopped", "hangs"):
            found.append(f"rank {rank} ended with {end.how}: {end.note['log']}")
        if end.how == "killed" and (rank != fault.rank or fault.action != "kill"):
            found.append(f"rank {rank} crashed")
        if "a value is wrong" in end.note.get("text", ""):
            found.append(f"rank {rank} loaded a wrong value, and the load returned")
    longest, torchs_longest = (_longest(each, fault.rank) for each in (outcome, torchs))
    if longest > torchs_longest + SLACK:
        found.append(f"a survivor took {longest:.1f} s, and with torch {torchs_longest:.1f} s")
    if fault.action == "second save":
        return found + _wrong_second_save(fault, variant, outcome)
    found += _wrong_contents(fault, variant, outcome)
    ended = {end.how for end in survivors}
    if len(ended) > 1:
        found.append(f"survivors differ: {', '.join(sorted(ended))}")
    if fault.action in SLOW_ACTIONS and ended != {"returned"}:
        found.append("a rank that was only slow made the others fail")
    if fault.action == "fail" and "end" not in fault.place and victim.how == "raised":
        unnamed = [end.note["text"] for end in survivors if fault.rank not in end.note["named"]]
        if unnamed:
            found.append(f"a survivor does not name rank {fault.rank}: {unnamed[0][:200]}")
    # A directory that vanishes is missed by every rank that uses it next.
    if variant in (WITH_DEADLINE, ATOMIC) and fault.action != "vanish":
        found += _wrong_deadline(fault, outcome)
    return found


def _longest(outcome: Outcome, victim: int) -> float:
    """Seconds until the last survivor knew how the save or load had ended."""
    return max(
        PATIENCE if end.how == "hangs" else end.note.get("seconds", 0.0)
        for rank, end in enumerate(outcome.ranks)
        if rank != victim
    )


def _wrong_contents(fault: Fault, variant: str, outcome: Outcome) -> list[str]:
    allowed = set(_ALLOWED[fault.operation])
    if variant == ATOMIC and fault.operation == "overwrite":
        allowed -= {"none"}
    returned = any(end.how == "returned" for end in outcome.ranks)
    if returned and fault.operation != "load":
        allowed = {"new"}
    found = []
    if outcome.contents not in allowed:
        after = " after a rank returned" if returned else ""
        found.append(f"the directory holds: {outcome.contents}{after}")
    if fault.operation == "load" and not outcome.is_unchanged:
        found.append("a load changed the files")
    return found


def _wrong_second_save(fault: Fault, variant: str, outcome: Outcome) -> list[str]:
    """One of two saves into one directory is whole, and the other has failed or came earlier."""
    saves = {"new": outcome.ranks, "second": outcome.second}
    returned = {name for name, ends in saves.items() if {end.how for end in ends} == {"returned"}}
    found = [
        f"the ranks of the save of '{name}' differ: {', '.join(sorted(ends))}"
        for name, ends in ((name, {end.how for end in ends}) for name, ends in saves.items())
        if len(ends) > 1
    ]
    if not returned and outcome.second:
        found.append("both saves failed")
    if returned and outcome.contents not in returned:
        found.append(f"the directory holds: {outcome.contents}, after a save returned")
    allowed = _ALLOWED[fault.operation] - ({"none"} if variant == ATOMIC else set())
    if not returned and outcome.contents not in allowed:
        found.append(f"the directory holds: {outcome.contents}")
    return found


def _wrong_deadline(fault: Fault, outcome: Outcome) -> list[str]:
    """Survivors name a rank that is gone, and do so in time."""
    found = []
    for rank, end in enumerate(outcome.ranks):
        if rank == fault.rank or end.how != "raised":
            continue
        if fault.rank not in end.note["named"]:
            found.append(f"rank {rank} does not name rank {fault.rank}: {end.note['text'][:200]}")
        if end.note["seconds"] > 2 * DEADLINE + SLACK:
            found.append(f"rank {rank} raised after {end.note['seconds']:.1f} s")
    return found
