"""What happens to a run and when, drawn from a seed. Pure: the same seed gives the same schedule."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Literal

LakeKind = Literal["local", "s3"]


class Kind(Enum):
    """A kind of fault, in words."""

    KILL_DRIVER = "the driver is killed"
    SECOND_DRIVER = "a second driver starts"
    KILL_ENCODER = "an encoder's process is killed"
    KILL_HELPER = "a helper's process is killed"
    LOSE_NODE = "a node is lost, another comes"
    STORE_AWAY = "the object store and catalogue are killed"
    CATALOGUE_AWAY = "the catalogue is locked"
    WAREHOUSE_AWAY = "the warehouse is unreachable"
    COMPACT_CHUNKS = "chunks are compacted"
    COMPACT_EMBEDDINGS = "embeddings are compacted"
    EXPIRE = "old snapshots and their files are removed"
    REPLACE = "chunks are replaced"
    MOVE = "chunks are rewritten with other metadata"


# Those that change a table: they are due at the end of a run, too, if their moment has not come before.
CHANGES = frozenset({Kind.COMPACT_CHUNKS, Kind.COMPACT_EMBEDDINGS, Kind.EXPIRE, Kind.REPLACE, Kind.MOVE})

_ONLY: Mapping[Kind, LakeKind] = {
    Kind.STORE_AWAY: "s3",
    Kind.CATALOGUE_AWAY: "local",
    Kind.WAREHOUSE_AWAY: "local",
}
# How often in one schedule at most: each of these costs seconds of starting something again.
_MOST = {Kind.KILL_DRIVER: 2, Kind.SECOND_DRIVER: 1, Kind.LOSE_NODE: 1, Kind.KILL_ENCODER: 2}


class Event(Enum):
    """What a moment is counted from; all drivers of a seed count together."""

    PLANNED = "plan"  # a driver has said what it will do; no unit is on its way
    ENCODING = "unit taken up"  # an encoder has begun one
    WRITTEN = "unit written"  # the driver has heard of it
    COMMITTING = "commit begun"  # the committer has looked at the table, its change is not made yet
    COMMITTED = "commit made"  # the change is made, the committer has not gone on
    ENDING = "survey after units"  # a driver looks once more at what changed


# How late a moment may be: (event, highest count, weight).
_MOMENTS = (
    (Event.PLANNED, 1, 1),
    (Event.ENCODING, 20, 4),
    (Event.WRITTEN, 16, 3),
    (Event.COMMITTING, 6, 5),
    (Event.COMMITTED, 5, 3),
    (Event.ENDING, 1, 1),
)


@dataclass(frozen=True)
class Fault:
    """One fault at one moment.

    Attributes:
        kind: What.
        event: At the time of which event.
        count: The how manyeth of its kind, from 1.
        held: Whether the driver stands still in the event until the fault is done; else it goes on.
        seconds: How long something is away; else how long after the event the fault comes.
        by_position: Whether rows are deleted by position (merge-on-read), else their files are rewritten.
        share: Of what the fault concerns, from 0 to 1: which process, how many documents.
    """

    kind: Kind
    event: Event
    count: int
    held: bool
    seconds: float
    by_position: bool
    share: float

    def __str__(self) -> str:
        how = ""
        if self.kind in (Kind.REPLACE, Kind.MOVE):
            how = " by position" if self.by_position else " by rewriting"
        if is_outage(self.kind):
            how = f" for {self.seconds:.1f} s"
        return f"{self.kind.value}{how} at {self.event.value} {self.count}{' (held)' if self.held else ''}"


@dataclass(frozen=True)
class Schedule:
    """All that a seed decides.

    Attributes:
        seed: It.
        lake: On which kind of lake.
        documents: Of the corpus; two chunks each.
        rows_per_file: Of `chunks`.
        unit_tokens: Of a unit.
        commit_units: Units of a commit.
        helper_node: Whether there is a node without accelerators, for helpers; else they share the encoders'.
        poison: Rows that no encoder can do, by what becomes of them.
        faults: In no order; moments decide.
    """

    seed: int
    lake: LakeKind
    documents: int
    rows_per_file: int
    unit_tokens: int
    commit_units: int
    helper_node: bool
    poison: Mapping[str, int]
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return "; ".join(str(fault) for fault in self.faults)


def is_outage(kind: Kind) -> bool:
    """Whether something is away for a while."""
    return kind in (Kind.STORE_AWAY, Kind.CATALOGUE_AWAY, Kind.WAREHOUSE_AWAY)


def lake_of(seed: int) -> LakeKind:
    """The lake of a seed where both kinds take turns."""
    return "s3" if seed % 2 else "local"


def draw(seed: int, lake: LakeKind) -> Schedule:
    """The schedule of a seed."""
    random = Random(f"faults/{seed}/{lake}")
    poison = {
        "raises": random.choice((0, 0, 1, 2)),
        "no vector": random.choice((0, 0, 1)),
        "bad ids": random.choice((0, 0, 1)),
        "too long": random.choice((0, 0, 1)),
        "dies": int(random.random() < 0.08),  # each takes half a dozen encoders with it
    }
    return Schedule(
        seed=seed,
        lake=lake,
        documents=random.randint(90, 140),
        rows_per_file=random.choice((8, 15, 30, 60)),
        unit_tokens=random.choice((150, 250, 400)),
        commit_units=random.randint(1, 4),
        helper_node=random.random() < 0.5,
        poison=poison,
        faults=tuple(_faults(random, lake, random.randint(3, 6))),
    )


def _faults(random: Random, lake: LakeKind, count: int) -> list[Fault]:
    kinds = [kind for kind in Kind if _ONLY.get(kind, lake) == lake]
    found: list[Fault] = []
    while len(found) < count:
        kind = random.choice(kinds)
        fault = _fault(random, kind)
        if sum(other.kind is kind for other in found) < _MOST.get(kind, 3):
            found.append(fault)
    return found


def _fault(random: Random, kind: Kind) -> Fault:
    event, highest, _ = random.choices(_MOMENTS, [weight for _, _, weight in _MOMENTS])[0]
    outage = is_outage(kind)
    held = event is not Event.ENCODING and random.random() < 0.6
    return Fault(
        kind=kind,
        event=event,
        count=random.randint(1, highest),
        held=held,
        seconds=random.choice((0.3, 1.0, 2.5, 7.0)) if outage else random.choice((0.0, 0.0, 0.2, 0.6)),
        by_position=random.random() < 0.6,
        share=random.random(),
    )
