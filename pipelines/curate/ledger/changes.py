"""Writes a run's results into the ledger: one atomic change of the table, made only if nobody else made one.

The ledger, `documents`, is the truth: which documents there are, with their texts, and what became of each.
The other tables follow from it (`pipelines.curate.ledger.follow`).
"""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate.ledger.versions import Versions
from pipelines.dedup.spark_sql import DELETED, REJECTED
from pipelines.lake.tables import DOCUMENTS

COLUMNS = tuple(field.name for field in DOCUMENTS.schema.fields)
_OUTCOME = ("outcome", "kept_doc_id", "kind", "similarity")
_PUT, _JUDGE, _DROP = "put", "judge", "drop"


@dataclass(frozen=True)
class Changes:
    """What a run does to the ledger, by keys.

    Attributes:
        records: The run's records, as `RECORD_SCHEMA`.
        versions: The documents and rejects to enter or replace.
        outcomes: doc_id and outcome columns of the documents whose outcome is new or another.
        gone: doc_id of the rows that go.
    """

    records: DataFrame
    versions: Versions
    outcomes: DataFrame
    gone: DataFrame


def write_changes(changes: Changes, ledger: str, adds_only: bool) -> None:
    """Writes the changes into a branch of the ledger.

    Rows that go stay as `deleted` until the other tables have followed. Not repeatable: it adds rows. The
    caller publishes the branch, or drops it.

    Args:
        changes: What is to be done.
        ledger: Spark's identifier of the branch.
        adds_only: Whether no row that is there changes.
    """
    put = _documents(changes).unionByName(_rejects(changes.versions.rejects))
    if adds_only:
        put.select(*COLUMNS).writeTo(ledger).append()
        return
    others = _rejudged(changes).unionByName(_gone(changes), allowMissingColumns=True)
    rows = put.withColumn("op", F.lit(_PUT)).unionByName(others, allowMissingColumns=True)
    all_of = {name: F.col(f"rows.{name}") for name in COLUMNS}
    (
        rows.alias("rows")
        .mergeInto(ledger, F.col("rows.doc_id") == F.col(f"{ledger}.doc_id"))
        .whenMatched(F.col("rows.op") == _PUT)
        .update(all_of)
        .whenMatched()
        .update({name: F.col(f"rows.{name}") for name in _OUTCOME})
        .whenNotMatched(F.col("rows.op") == _PUT)
        .insert(all_of)
        .merge()
    )


def _documents(changes: Changes) -> DataFrame:
    """Full rows of the new and changed documents, their texts from the records."""
    entered = changes.versions.changes
    keys = entered.select("doc_id", "arrival", "file", "position").join(changes.outcomes, "doc_id")
    given = changes.records.drop("doc_id", "arrival", "reason", "detail", "excerpt")
    rows = keys.join(given, ["file", "position"])
    nothing = {name: _null() for name in ("reason", "detail", "excerpt")}
    return rows.withColumns({"given_id": F.col("doc_id"), **nothing}).select(*COLUMNS)


def _rejects(rejects: DataFrame) -> DataFrame:
    nothing = {name: _null() for name in ("kept_doc_id", "kind", "text")}
    return rejects.withColumns(
        {
            "outcome": F.lit(REJECTED),
            "similarity": F.lit(None).cast("double"),
            "bands": F.lit(None).cast("array<bigint>"),
            "metadata": F.lit(None).cast("map<string,string>"),
            **nothing,
        }
    ).select(*COLUMNS)


def _rejudged(changes: Changes) -> DataFrame:
    """Outcomes of documents that the run did not bring."""
    entered = changes.versions.changes.select(F.col("doc_id").alias("_id"))
    outcomes = changes.outcomes.join(entered, F.col("doc_id") == F.col("_id"), "left_anti")
    return outcomes.select("doc_id", *_OUTCOME, F.lit(_JUDGE).alias("op"))


def _gone(changes: Changes) -> DataFrame:
    """Rows that go, unless the run brings a document in their place."""
    entered = changes.versions.changes.select(F.col("doc_id").alias("_id"))
    gone = changes.gone.distinct().join(entered, F.col("doc_id") == F.col("_id"), "left_anti")
    return gone.select("doc_id", F.lit(DELETED).alias("outcome"), F.lit(_DROP).alias("op"))


def _null() -> Column:
    return F.lit(None).cast("string")
