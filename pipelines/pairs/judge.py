"""What becomes of a source's pairs: kept, or why not. Each distinct pair once."""

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.dedup.near import NearJudge
from pipelines.dedup.spark_sql import cut
from pipelines.pairs.config import PairsConfig


def judged(spark: SparkSession, found: DataFrame, config: PairsConfig) -> DataFrame:
    """The distinct pairs with their outcome, and how often each was read.

    Of near duplicates the longest is kept: a table without an order gives the same pairs however it is read.

    Args:
        spark: The session.
        found: Of one source; see `FOUND_SCHEMA`.
        config: Of the run.

    Returns:
        The same columns without bands and n_chars, and `copies`; no outcome is null.
    """
    names = ("query", "document", "query_hash", "document_hash", "outcome", "detail", "n_chars", "bands")
    distinct = cut(
        found.groupBy("pair_id").agg(
            F.min("ordinal").alias("ordinal"),
            F.min("part").alias("part"),
            F.count(F.lit(1)).cast("int").alias("copies"),
            *(F.first(name).alias(name) for name in names),
        )
    )
    common = (
        distinct.where("outcome is null")
        .groupBy("query_hash")
        .agg(F.count_distinct("document_hash").alias("documents"))
        .where(F.col("documents") > config.most_per_query)
        .select("query_hash", F.lit("common_query").alias("common"))
    )
    rows = distinct.join(common, "query_hash", "left")
    rows = _decided(rows, F.col("common").isNotNull(), "rejected", F.col("common")).drop("common")
    candidates = rows.where("outcome is null").select(
        F.col("pair_id").alias("text_hash"),
        F.struct((-F.col("n_chars")).alias("shortness"), F.col("pair_id").alias("doc_id")).alias("place"),
        "bands",
    )
    texts = distinct.select(
        F.col("pair_id").alias("text_hash"),
        "n_chars",
        F.concat_ws("\n", "query", "document").alias("text"),
    )
    verdicts = NearJudge(spark, config.near, texts).judge(candidates, None).nodes
    keepers = verdicts.where("keeper is not null").selectExpr("text_hash as pair_id", "keeper")
    rows = rows.join(keepers, "pair_id", "left")
    rows = _decided(rows, F.col("keeper").isNotNull(), "near_duplicate", F.col("keeper")).drop("keeper")
    if config.held_out:
        rows = _decided(rows, _is_held_out(config), "held_out", F.lit(None))
    return rows.withColumn("outcome", F.coalesce("outcome", F.lit("kept"))).drop("bands", "n_chars")


def _decided(rows: DataFrame, condition: Column, outcome: str, detail: Column) -> DataFrame:
    """The rows, with an outcome where they had none and the condition holds."""
    newly = F.col("outcome").isNull() & condition
    return rows.withColumns(
        {
            "outcome": F.when(newly, F.lit(outcome)).otherwise(F.col("outcome")),
            "detail": F.when(newly, detail).otherwise(F.col("detail")),
        }
    )


def _is_held_out(config: PairsConfig) -> Column:
    part = F.coalesce("part", "pair_id")
    draw = F.pmod(F.xxhash64(F.lit(config.seed), part), F.lit(1_000_000)) / 1_000_000
    return draw < config.held_out
