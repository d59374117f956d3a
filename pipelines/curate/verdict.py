"""What becomes of each record, by keys alone: the text stays where it is.

Order-independent: the verdicts depend on the set of records and on what the lake holds, not on partitions,
file order or which run asks. Near dedup joins here, between the exact twins and the kept.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - its customary name

KEPT, DUPLICATE, REJECTED = "kept", "duplicate", "rejected"
_KEYS = (
    "doc_id",
    "source",
    "text_hash",
    "n_chars",
    "file",
    "position",
    "stage",
    "reason",
    "detail",
    "excerpt",
)


def verdicts(records: DataFrame, ledger: DataFrame, source_priority: Sequence[str]) -> DataFrame:
    """One row per record that the lake does not know yet.

    Args:
        records: As `RECORD_SCHEMA`.
        ledger: The `documents` table.
        source_priority: Of equal documents, the one whose source stands earlier is kept.

    Returns:
        The records' keys, with `outcome` and, for duplicates, `kept_doc_id`. A document given several times
        with the same text is one row. `doc_id` of a record that another has displaced (same id, other
        text) is `id#hash`, so that it is unique in the ledger too.
    """
    keys = records.select(*_KEYS)
    known = ledger.select(
        "doc_id", F.col("text_hash").alias("known_hash"), F.col("outcome").alias("known_outcome")
    )
    good = keys.where(F.col("reason").isNull()).join(known, "doc_id", "left")
    one = _one_text_per_id(good)
    fresh = one.where(~_is_settled()).drop("known_hash", "known_outcome")
    judged = _exact(fresh, ledger, source_priority)
    taken = one.select("doc_id").unionByName(known.where(_is_settled()).select("doc_id")).distinct()
    bad = _own_id(keys.where(F.col("reason").isNotNull()), taken).unionByName(_displaced(good, one))
    bad = _first_by(bad, ["doc_id"], [F.col("file"), F.col("position"), F.col("text_hash")])
    before = known.where(~_is_settled()).select("doc_id", F.col("known_hash").alias("text_hash"))
    new_bad = bad.join(before, ["doc_id", "text_hash"], "left_anti")
    new_bad = new_bad.withColumns({"outcome": F.lit(REJECTED), "kept_doc_id": F.lit(None).cast("string")})
    return judged.unionByName(new_bad)


def _one_text_per_id(good: DataFrame) -> DataFrame:
    """Per id the text that the lake has, else the first by file and position."""
    is_known = _is_settled() & (F.col("known_hash") == F.col("text_hash"))
    order = [F.when(is_known, 0).otherwise(1), F.col("file"), F.col("position"), F.col("text_hash")]
    return _first_by(good, ["doc_id"], order)


def _is_settled() -> Column:
    """Whether the lake has accepted a text for the id; a reject may still become a document."""
    return F.coalesce(F.col("known_outcome") != REJECTED, F.lit(False))


def _own_id(bad: DataFrame, taken: DataFrame) -> DataFrame:
    """The rejected records; one whose id is a document's is known by id and hash."""
    marked = bad.join(taken.withColumn("is_taken", F.lit(True)), "doc_id", "left")
    doc_id = F.when(F.col("is_taken"), _id_and_hash()).otherwise(F.col("doc_id"))
    return marked.withColumn("doc_id", doc_id).drop("is_taken")


def _id_and_hash() -> Column:
    return F.concat("doc_id", F.lit("#"), F.substring("text_hash", 1, 16))


def _displaced(good: DataFrame, one: DataFrame) -> DataFrame:
    """The records whose id has another text, in the lake or in a record before them."""
    winning = F.when(_is_settled(), F.col("known_hash")).otherwise(F.col("text_hash"))
    winner = one.select("doc_id", winning.alias("winning_hash"))
    others = good.join(winner, "doc_id").where(F.col("text_hash") != F.col("winning_hash"))
    detail = F.concat(F.lit("the id "), F.col("doc_id"), F.lit(" is held by another text"))
    return others.select(
        _id_and_hash().alias("doc_id"),
        "source", "text_hash", "n_chars", "file", "position",
        F.lit("curate").alias("stage"),
        F.lit("duplicate_id").alias("reason"),
        detail.alias("detail"),
        "excerpt",
    )  # fmt: skip


def _exact(fresh: DataFrame, ledger: DataFrame, source_priority: Sequence[str]) -> DataFrame:
    """Keeps of equal texts the one in the lake, else the first by source priority and id."""
    held = ledger.where(F.col("outcome") == KEPT).select("text_hash", F.col("doc_id").alias("held_doc_id"))
    rank = _rank(source_priority)
    window = Window.partitionBy("text_hash").orderBy(rank, F.col("doc_id"))
    first = F.first("doc_id").over(window)
    ranked = fresh.join(held, "text_hash", "left").withColumn(
        "keeper", F.coalesce(F.col("held_doc_id"), first)
    )
    is_kept = F.col("keeper") == F.col("doc_id")
    return ranked.withColumns(
        {
            "outcome": F.when(is_kept, KEPT).otherwise(DUPLICATE),
            "kept_doc_id": F.when(~is_kept, F.col("keeper")),
        }
    ).drop("held_doc_id", "keeper")


def _rank(source_priority: Sequence[str]) -> Column:
    rank = F.lit(len(source_priority))
    for place, source in reversed(list(enumerate(source_priority))):
        rank = F.when(F.col("source") == source, place).otherwise(rank)
    return rank


def _first_by(frame: DataFrame, keys: list[str], order: list[Column]) -> DataFrame:
    window = Window.partitionBy(*keys).orderBy(*order)
    return frame.withColumn("_place", F.row_number().over(window)).where(F.col("_place") == 1).drop("_place")
