"""What becomes of a unit that failed: again, in halves, or its one row rejected. Pure."""

from dataclasses import dataclass, replace
from enum import Enum

from pipelines.embed.plan.units import Unit

# So often a unit is tried before it is halved; a half, which is suspect already, once.
TRIES = 2
# So often a row is tried alone before it is rejected. Once would do where a row fails by itself, and rejects
# one whose encoder something else has killed just when it was left over from a neighbour's failure.
LONE_TRIES = 3
# So often work may be lost with what it ran on: a node that went, a process that a neighbour's work ended.
LOSSES = 20


class Fault(Enum):
    """What went wrong with a unit."""

    FAILED = "failed"  # its encoder raised
    CRASHED = "crashed"  # its encoder's process died over it
    LOST = "lost"  # what it ran on, or a part of it in memory, went with something else
    UNREACHABLE = "unreachable"  # the object store or the catalogue does not answer
    GONE = "gone"  # its data files were rewritten


@dataclass(frozen=True)
class Attempt:
    """A unit, and what has happened to it.

    Attributes:
        unit: The unit or a part of it.
        tries: How often it has failed or crashed.
        losses: How often it was lost.
        waits: How often the store was unreachable for it.
        detail: What the last failure said.
        avoid: Encoders that it has failed on.
    """

    unit: Unit
    tries: int = 0
    losses: int = 0
    waits: int = 0
    detail: str = ""
    avoid: frozenset[str] = frozenset()


class Verdict(Enum):
    """What to do."""

    AGAIN = "again"
    REJECT = "reject"  # its one row
    DROP = "drop"  # a new plan finds its rows
    GIVE_UP = "give up"


def after(attempt: Attempt, fault: Fault, detail: str, worker: str) -> tuple[Verdict, list[Attempt]]:
    """What to do after a fault, and the attempts that it leaves.

    Args:
        attempt: What was tried.
        fault: What went wrong.
        detail: What it said.
        worker: The encoder that it happened on.
    """
    attempt = replace(attempt, detail=detail)
    if fault is Fault.GONE:  # one file of it, perhaps
        parts = [replace(attempt, unit=Unit(attempt.unit.number, (piece,))) for piece in attempt.unit.slices]
        return (Verdict.AGAIN, parts) if len(parts) > 1 else (Verdict.DROP, [])
    if fault is Fault.UNREACHABLE:
        return Verdict.AGAIN, [replace(attempt, waits=attempt.waits + 1)]
    if fault is Fault.LOST:
        lost = replace(attempt, losses=attempt.losses + 1)
        return (Verdict.AGAIN, [lost]) if lost.losses <= LOSSES else (Verdict.GIVE_UP, [])
    failed = replace(attempt, tries=attempt.tries + 1, avoid=attempt.avoid | {worker})
    is_alone = failed.unit.rows <= 1
    if failed.tries < (LONE_TRIES if is_alone else TRIES):
        return Verdict.AGAIN, [failed]
    if is_alone:
        return Verdict.REJECT, [failed]
    return Verdict.AGAIN, [
        Attempt(half, TRIES - 1 if half.rows > 1 else 0, failed.losses, failed.waits, detail, failed.avoid)
        for half in failed.unit.halves()
    ]
