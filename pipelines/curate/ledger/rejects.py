"""What could not be used, and where it was read from: what a replay reads again."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.errors import InputError
from pipelines.lake import Lake
from pipelines.lake.filters import all_of, equals, is_one_of
from pipelines.lake.scan import read_batches, scan_files

STAGES = ("read", "curate")


@dataclass(frozen=True)
class Reject:
    """A row of `rejects`."""

    key: str
    stage: str
    source: str
    reason: str
    detail: str | None
    excerpt: str | None
    payload: dict[str, Any]


@dataclass(frozen=True)
class Replay:
    """What is read again.

    Attributes:
        inputs: As they were given to the runs that rejected.
        files: URIs of the files in them; those of tables are of no matter.
        rejects: How many rejects they hold.
    """

    inputs: tuple[str, ...]
    files: frozenset[str]
    rejects: int


def rejects_of(
    lake: Lake, stages: Sequence[str], reason: str | None = None, source: str | None = None
) -> Iterator[Reject]:
    """The rejects of some stages, of one reason and source where they are given; none in a lake without."""
    if not lake.exists("rejects"):
        return
    wanted = [is_one_of("stage", stages)]
    wanted += [equals("reason", reason)] if reason else []
    wanted += [equals("source", source)] if source else []
    row_filter = all_of(*wanted)
    table = lake.table("rejects")
    columns = ["key", "stage", "source", "reason", "detail", "excerpt", "payload"]
    for file in scan_files(table, row_filter):
        for batch in read_batches(table, file, columns, row_filter):
            for row in batch.to_pylist():
                yield Reject(**row | {"payload": json.loads(row["payload"] or "{}")})


def replay_of(lake: Lake, reason: str | None = None, source: str | None = None) -> Replay:
    """What to curate again to try the rejects of reading and curating once more.

    Raises:
        InputError: There is none.
    """
    found = list(rejects_of(lake, STAGES, reason, source))
    if not found:
        raise InputError(
            "there is no such reject to replay", "'embedlake rejects list' shows those there are"
        )
    return Replay(
        inputs=tuple(dict.fromkeys(one.payload["input"] for one in found)),
        files=frozenset(one.payload["file"] for one in found),
        rejects=len(found),
    )
