"""What a seed decides: the documents of each run of `curate`, and how `maintain` is set."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.dedup.oracle import Doc, day, families

_STEPS, _DOCUMENTS = 3, 25


@dataclass(frozen=True)
class CurateStep:
    """A run of `curate`."""

    docs: Sequence[Doc]
    deletes: Sequence[str]


@dataclass(frozen=True)
class Schedule:
    """A seed's.

    Attributes:
        seed: Itself.
        steps: The runs of `curate`.
        maintain: A `MaintainConfig` in plain data.
        wanted: The documents that the lake must have in the end.
    """

    seed: int
    steps: Sequence[CurateStep]
    maintain: dict[str, Any]
    wanted: Sequence[Doc]

    @property
    def keeps_files(self) -> bool:
        """Whether files outlive the jobs that read them: then no step may fail."""
        return bool(self.maintain["expire_days"] > 0)


def draw(seed: int, steps: int = _STEPS, documents: int = _DOCUMENTS) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)
    waiting = list(families(rng, steps * documents, 0, 10, "a"))
    now: dict[str, Doc] = {}
    runs = []
    for number in range(steps):
        came, waiting = waiting[:documents], waiting[documents:]
        known = list(now.values())
        changed = [
            replace(one, text=f"{one.text} more {number}", arrived_at=day(20 + number))
            for one in rng.sample(known, min(len(known), rng.choice([0, 6, 12])))
        ]
        gone = [one.doc_id for one in rng.sample(known, min(len(known), rng.choice([0, 6, 12])))]
        runs.append(CurateStep([*came, *changed], gone))
        now |= {one.doc_id: one for one in (*came, *changed)}
        now = {doc_id: one for doc_id, one in now.items() if doc_id not in gone}
    maintain = {
        "target_file_mib": rng.choice([0.005, 0.02, 8]),
        "min_input_files": rng.choice([2, 2, 4]),
        "delete_ratio": rng.choice([0.01, 0.3]),
        "delete_files": rng.choice([1, 5]),
        "min_manifests": rng.choice([2, 5]),
        "expire_days": rng.choice([0, 1]),
        "retain_last": rng.choice([1, 3]),
        "attempts": rng.choice([1, 3]),
    }
    return Schedule(seed, runs, maintain, list(now.values()))
