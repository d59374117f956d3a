"""Writes a run's results: one MERGE a table, each atomic, each leaving what is already there.

Order is the fault protocol. `documents`, the ledger, comes last: a document is known only once its chunks,
duplicate or reject rows are in. Killed before any of the four, or between them, the same command again finds
the documents unknown, judges them alike, and its MERGEs add only what is missing.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate.verdict import DUPLICATE, KEPT, REJECTED
from pipelines.lake import Lake

_REJECT_COLUMNS = ("key", "stage", "source", "reason", "detail", "excerpt", "payload")
_LEDGER_COLUMNS = ("doc_id", "source", "text_hash", "outcome", "n_chars")


def write_chunks(lake: Lake, chunks: DataFrame) -> None:
    """Adds the chunks that the table does not have."""
    table = lake.spark_identifier("chunks")
    same = _equal(chunks, table, "source", "doc_id", "chunk_id")
    chunks.mergeInto(table, same).whenNotMatched().insertAll().merge()


def write_duplicates(lake: Lake, verdicts: DataFrame) -> None:
    """Adds the exact duplicates that the table does not have."""
    table = lake.spark_identifier("duplicates")
    rows = verdicts.where(F.col("outcome") == DUPLICATE).select(
        "doc_id", "source", "kept_doc_id", F.lit("exact").alias("kind"), F.lit(1.0).alias("similarity")
    )
    rows.mergeInto(table, _equal(rows, table, "source", "doc_id")).whenNotMatched().insertAll().merge()


def write_rejects(lake: Lake, verdicts: DataFrame) -> None:
    """Adds the new rejects, and takes out those whose document has since been accepted."""
    table = lake.spark_identifier("rejects")
    rows = verdicts.withColumns(
        {"key": F.col("doc_id"), "payload": F.to_json(F.struct("file", "position"))}
    ).select(*_REJECT_COLUMNS, "outcome")
    is_reject = rows["outcome"] == REJECTED
    values = {name: rows[name] for name in _REJECT_COLUMNS}
    (
        rows.mergeInto(table, _equal(rows, table, "stage", "key"))
        .whenMatched(~is_reject)
        .delete()
        .whenMatched()
        .update(values)
        .whenNotMatched(is_reject)
        .insert(values)
        .merge()
    )


def write_ledger(lake: Lake, verdicts: DataFrame) -> None:
    """Enters the run's documents; a rejected one that was judged anew is entered anew."""
    table = lake.spark_identifier("documents")
    rows = verdicts.select(*_LEDGER_COLUMNS)
    was_reject = F.col(f"{table}.outcome") == REJECTED
    merge = rows.mergeInto(table, _equal(rows, table, "doc_id"))
    merge.whenMatched(was_reject).updateAll().whenNotMatched().insertAll().merge()


def forget_file_rejects(spark: SparkSession, lake: Lake, uris: Sequence[str]) -> None:
    """Takes out the rejects of files that could not be read before, and now were."""
    if not uris:
        return
    rejects, documents = lake.spark_identifier("rejects"), lake.spark_identifier("documents")
    files = spark.createDataFrame(
        [(uri, uri, "read") for uri in uris], "key string, doc_id string, stage string"
    )
    files.mergeInto(rejects, _equal(files, rejects, "stage", "key")).whenMatched().delete().merge()
    files.mergeInto(documents, _equal(files, documents, "doc_id")).whenMatched().delete().merge()


def kept_of(verdicts: DataFrame) -> DataFrame:
    """The verdicts of documents that are kept."""
    return verdicts.where(F.col("outcome") == KEPT)


def _equal(rows: DataFrame, table: str, *columns: str) -> Column:
    condition = F.lit(True)
    for column in columns:
        condition &= rows[column] == F.col(f"{table}.{column}")
    return condition
