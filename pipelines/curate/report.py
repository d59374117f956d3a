"""What a run did, counted."""

from dataclasses import asdict, dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate.ledger.changes import Changes
from pipelines.dedup.spark_sql import DUPLICATE, KEPT, NEAR, among


@dataclass(frozen=True)
class Counts:
    """What a run changes in the ledger.

    Attributes:
        kept: Of the new and changed documents, those kept.
        duplicates: Of them, those removed for a kept one.
        near: Of the duplicates, those whose text is not the same.
        rejects: New rejects, by reason.
        changed: Of the new and changed documents, those that replace an older version.
        deleted: Documents and rejects that go.
        rejudged: Other documents whose outcome is another now.
        only_adds: Whether no row of the ledger changes.
    """

    kept: int
    duplicates: int
    near: int
    rejects: dict[str, int]
    changed: int
    deleted: int
    rejudged: int
    only_adds: bool

    @property
    def new(self) -> int:
        """Documents and rejects that the ledger did not have so."""
        return self.kept + self.duplicates + sum(self.rejects.values())


NO_CHANGE = Counts(0, 0, 0, {}, 0, 0, 0, only_adds=True)


@dataclass(frozen=True)
class CurateReport:
    """What a run did.

    Attributes:
        run_id: Of the run; its snapshots carry it.
        given: Records read, files that could not be read among them.
        new: Of them, documents and rejects that the lake did not have so.
        kept: Of the new, those that were chunked.
        duplicates: Of the new, those removed for a kept twin.
        near: Of the duplicates, those that resemble it and are not equal to it.
        rejects: Of the new, those that could not be used, by reason.
        changed: Of the new, documents that replace an older version.
        deleted: Rows of the ledger that went.
        rejudged: Documents that the lake had and whose outcome changed.
        chunks: Chunks written.
        left_out: By input, which of its files were not read, in words.
        seconds: Wall-clock time of the run.
    """

    run_id: str
    given: int
    new: int
    kept: int
    duplicates: int
    near: int
    rejects: dict[str, int]
    changed: int
    deleted: int
    rejudged: int
    chunks: int
    left_out: dict[str, str]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def counts_of(changes: Changes, ledger: DataFrame) -> Counts:
    """Counts what is to be done.

    Args:
        changes: By keys; small or held.
        ledger: The `documents` table, as it is before.
    """
    entered = changes.versions.changes.select("doc_id", "known_outcome", F.lit(True).alias("is_entered"))
    rows = changes.outcomes.join(entered, "doc_id", "left")
    found = rows.groupBy(
        "is_entered", "outcome", "kind", F.col("known_outcome").isNotNull().alias("is_known")
    )
    total = dict.fromkeys(("kept", "duplicates", "near", "changed", "rejudged", "replaced"), 0)
    for row in found.count().collect():
        count = row["count"]
        if not row["is_entered"]:
            total["rejudged"] += count
            continue
        total["kept"] += count * (row["outcome"] == KEPT)
        total["duplicates"] += count * (row["outcome"] == DUPLICATE)
        total["near"] += count * (row["kind"] == NEAR)
        total["replaced"] += count * row["is_known"]
    changed = changes.versions.changes.where(F.col("known_outcome").isin(KEPT, DUPLICATE)).count()
    by_reason = changes.versions.rejects.groupBy("reason").count().collect()
    rejects = {row["reason"]: row["count"] for row in by_reason}
    deleted = changes.gone.count()
    replaces = bool(total["replaced"] or total["rejudged"] or deleted)
    if rejects and not replaces:
        replaces = not among(ledger, changes.versions.rejects, "doc_id").isEmpty()
    return Counts(
        kept=total["kept"],
        duplicates=total["duplicates"],
        near=total["near"],
        rejects=rejects,
        changed=changed,
        deleted=deleted,
        rejudged=total["rejudged"],
        only_adds=not replaces,
    )
