"""What a run changes, by keys alone: which record is a document's current version, and what the lake knows.

Depends on the set of records and the lake, not on partitions, file order or which run asks. Of records with
one id the one that arrived last is the document; those before it are superseded, as if they had come in an
earlier run. That is why curating A and then B gives the tables of curating both at once.
"""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.dedup.spark_sql import (
    DUPLICATE,
    KEPT,
    REJECTED,
    among,
    cut,
    first_by,
    is_accepted,
    not_among,
)

_KEYS = (
    "doc_id", "source", "arrival", "text_hash", "version", "n_chars", "input", "file", "position", "stage",
    "reason", "detail", "excerpt", "bands",
)  # fmt: skip
_REJECT_KEYS = [name for name in _KEYS if name != "bands"]


@dataclass(frozen=True)
class Versions:
    """What is to be done with the ledger, before anything is judged against anything.

    Attributes:
        changes: One row per document to enter or replace, with the columns of `_KEYS` and `known_outcome`:
            null where the ledger has no row of the id. Held.
        rejects: One row per reject to enter or replace, the same columns; `doc_id` is the ledger's key and
            `given_id` the record's own. Held.
        superseded: doc_id of the ledger's rejects that a later good record has replaced; None where it has
            none.
    """

    changes: DataFrame
    rejects: DataFrame
    superseded: DataFrame | None


def resolve(records: DataFrame, ledger: DataFrame, known: DataFrame | None, has_rejects: bool) -> Versions:
    """Compares the records with each other and with the ledger.

    Args:
        records: As `RECORD_SCHEMA`.
        ledger: The `documents` table.
        known: Rows of it, all those of the good records' ids among them; None where it has no rows.
        has_rejects: Whether rejects may be among its rows.
    """
    keys = records.select(*_KEYS)
    good = _dated(keys.where(F.col("reason").isNull()))
    held = cut(good.where("number = 1 or is_conflict"))
    winners = held.where("number = 1").withColumn("arrival", F.coalesce("since", "latest"))
    conflicts = held.where("is_conflict")
    changes = _changes(winners, known)
    changes = changes if known is None else cut(changes)
    bad = keys.where(F.col("reason").isNotNull()).select(*_REJECT_KEYS)
    if bad.isEmpty() and conflicts.isEmpty():
        rejects = bad.withColumn("given_id", F.col("doc_id")).select("given_id", *_REJECT_KEYS).limit(0)
    else:
        rejects = cut(_rejects(bad, conflicts, winners, ledger))
    return Versions(changes, rejects, _superseded(winners, ledger) if has_rejects else None)


def _superseded(winners: DataFrame, ledger: DataFrame) -> DataFrame:
    latest = winners.select(F.col("doc_id").alias("given_id"), "latest")
    known_rejects = ledger.where(F.col("outcome") == REJECTED)
    return (
        among(known_rejects, winners, "given_id", "doc_id")
        .join(latest, "given_id")
        # Under the id itself the document takes the reject's place.
        .where((F.col("arrival") < F.col("latest")) & (F.col("doc_id") != F.col("given_id")))
        .select("doc_id")
    )


def _dated(good: DataFrame) -> DataFrame:
    """The good records, numbered by id from the current version on, with when its text came to stay.

    `is_conflict` marks those that came at the same time as the current version with another text.
    """
    same_id = Window.partitionBy("doc_id")
    order = same_id.orderBy(F.col("arrival").desc(), "file", "position", "text_hash")
    numbered = good.withColumns(
        {
            "number": F.row_number().over(order),
            "current_hash": F.first("text_hash").over(order),
            "latest": F.first("arrival").over(order),
        }
    )
    is_current = F.col("text_hash") == F.col("current_hash")
    other = numbered.withColumn("other", F.max(F.when(~is_current, F.col("arrival"))).over(same_id))
    stays = is_current & (F.col("other").isNull() | (F.col("arrival") > F.col("other")))
    is_conflict = (F.col("arrival") == F.col("latest")) & ~is_current
    since = F.min(F.when(stays, F.col("arrival"))).over(same_id)
    return other.withColumns({"since": since, "is_conflict": is_conflict}).drop("other")


def _changes(winners: DataFrame, ledger: DataFrame | None) -> DataFrame:
    if ledger is None:
        return winners.select(*_KEYS, F.lit(None).cast("string").alias("known_outcome"))
    known = among(ledger, winners, "doc_id").select(
        "doc_id",
        F.col("outcome").alias("known_outcome"),
        F.col("version").alias("known_version"),
        F.col("text_hash").alias("known_hash"),
        F.col("arrival").alias("known_arrival"),
    )
    is_document = F.coalesce(F.col("known_outcome").isin(KEPT, DUPLICATE), F.lit(False))
    is_same = F.col("known_version") == F.col("version")
    is_older = F.col("latest") < F.col("known_arrival")
    text_stays = F.col("known_hash") == F.col("text_hash")
    arrival = F.when(is_document & text_stays, F.least("known_arrival", "arrival")).otherwise(
        F.col("arrival")
    )
    changed = winners.join(known, "doc_id", "left").where(~is_document | ~(is_same | is_older))
    return changed.withColumn("arrival", arrival).select(*_KEYS, "known_outcome")


def _rejects(bad: DataFrame, conflicts: DataFrame, winners: DataFrame, ledger: DataFrame) -> DataFrame:
    latest = winners.select("doc_id", "latest", F.lit(True).alias("has_winner"))
    bad = bad.join(latest, "doc_id", "left").where(
        F.col("latest").isNull() | (F.col("latest") <= F.col("arrival"))
    )
    documents = among(ledger.where(is_accepted()), bad, "doc_id").select(
        "doc_id", F.lit(True).alias("is_document")
    )
    bad = bad.join(documents, "doc_id", "left")
    is_taken = F.coalesce("has_winner", "is_document", F.lit(False))
    own = bad.withColumn("given_id", F.col("doc_id")).withColumn(
        "doc_id", F.when(is_taken, _id_and_hash()).otherwise(F.col("doc_id"))
    )
    columns = ["given_id", *_REJECT_KEYS]
    rejects = own.select(*columns).unionByName(_conflicting(conflicts).select(*columns))
    order = [F.col("arrival").desc(), F.col("file"), F.col("position"), F.col("version")]
    rejects = first_by(rejects, ["doc_id"], order)
    known = among(ledger.where(F.col("outcome") == REJECTED), rejects, "doc_id").select("doc_id", "version")
    return rejects.join(known, ["doc_id", "version"], "left_anti")


def _conflicting(records: DataFrame) -> DataFrame:
    """Records whose id another text holds that came at the same time, as rejects."""
    detail = F.concat(F.lit("the id "), F.col("doc_id"), F.lit(" is held by another text"))
    return records.withColumns(
        {
            "given_id": F.col("doc_id"),
            "reason": F.lit("duplicate_id"),
            "detail": detail,
            "version": F.col("text_hash"),
        }
    ).withColumn("doc_id", _id_and_hash())


def _id_and_hash() -> Column:
    return F.concat("doc_id", F.lit("#"), F.substring("text_hash", 1, 16))


def gone_documents(ledger: DataFrame, ids: DataFrame) -> DataFrame:
    """doc_id of the ledger's rows whose given id is one of `ids` (column `doc_id`)."""
    return among(ledger, ids, "given_id", "doc_id").select("doc_id")


def absent_documents(ledger: DataFrame, present: DataFrame, sources: list[str]) -> DataFrame:
    """doc_id of the ledger's rows of `sources` whose given id is not one of `present` (column `doc_id`)."""
    return not_among(ledger.where(F.col("source").isin(sources)), present, "given_id", "doc_id").select(
        "doc_id"
    )
