"""Small pieces of Spark that several steps share."""

from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - its customary name
from pyspark.sql.types import StructType

# Rows of keys that every task may hold for itself: a choice, not yet measured.
BROADCAST_ROWS = 50_000
KEPT, DUPLICATE, REJECTED, DELETED = "kept", "duplicate", "rejected", "deleted"
EXACT, NEAR = "exact", "near"


def empty_frame(spark: SparkSession, ddl: str) -> DataFrame:
    """A frame of no rows, of which Spark does not know that it has none (see `cut`).

    `createDataFrame` of a Python list would be read by Python workers of another kind than the SQL ones,
    with a daemon of their own: two seconds and 130 MiB.
    """
    schema = StructType.fromDDL(ddl)
    assert isinstance(schema, StructType)
    values = [F.lit(None).cast(field.dataType).alias(field.name) for field in schema]
    return spark.range(0, 1, 1, 1).where("id < 0").select(*values)


def is_accepted() -> Column:
    """Whether a row of the ledger is a document, kept or not, and no reject."""
    return F.col("outcome").isin(KEPT, DUPLICATE)


def place_of(source_priority: Sequence[str]) -> Column:
    """A document's place in the order of priority, as a struct that sorts so: the first is kept.

    Source priority, then the older, then the longer, then the smaller id.
    """
    rank = F.lit(len(source_priority))
    for number, source in reversed(list(enumerate(source_priority))):
        rank = F.when(F.col("source") == source, number).otherwise(rank)
    return F.struct(
        rank.alias("rank"), F.col("arrival"), (-F.col("n_chars")).alias("shortness"), F.col("doc_id")
    )


def first_by(frame: DataFrame, keys: Sequence[str], order: Sequence[Column]) -> DataFrame:
    """The first row of each key."""
    window = Window.partitionBy(*keys).orderBy(*order)
    return frame.withColumn("_number", F.row_number().over(window)).where("_number = 1").drop("_number")


def among(frame: DataFrame, keys: DataFrame, column: str, key: str | None = None) -> DataFrame:
    """The rows of `frame` whose `column` is one of the `key` values of `keys`."""
    wanted = keys.select(F.col(key or column).alias("_key"))
    return frame.join(wanted, F.col(column) == F.col("_key"), "left_semi")


def not_among(frame: DataFrame, keys: DataFrame, column: str, key: str | None = None) -> DataFrame:
    """The rows of `frame` whose `column` is none of the `key` values of `keys`."""
    unwanted = keys.select(F.col(key or column).alias("_key"))
    return frame.join(unwanted, F.col(column) == F.col("_key"), "left_anti")


def at_most(frame: DataFrame, rows: int) -> pa.Table | None:
    """The rows, brought to the driver; None where there are more than `rows`."""
    found = frame.limit(rows + 1).toArrow()
    return found if found.num_rows <= rows else None


def cut(frame: DataFrame) -> DataFrame:
    """The rows, computed now and once: what follows does not know how they came about.

    Not `persist`: frames that are built of each other and persisted make Spark describe each within the
    next, which doubles with every step until the driver's memory is full. They lie on the executors; where
    `spark.checkpoint.dir` names a folder, there, and then an executor may be lost.

    The first side of a union in it must not be known to Spark as empty (a literal without rows): Spark 4.1
    drops that side, and then fails with "key not found".
    """
    has_folder = frame.sparkSession.conf.get("spark.checkpoint.dir", None)
    held = frame.checkpoint(eager=False) if has_folder else frame.localCheckpoint(eager=False)
    # Counting computes the rows; it is also the only way for Spark to learn how few they are.
    return F.broadcast(held) if held.count() <= BROADCAST_ROWS else held
