"""Hard negatives of the pairs of a run's batches: mined ones, or random ones of the source. Spark."""

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.errors import TrainingError
from pipelines.lake import Lake
from pipelines.lake.training_tables import NEGATIVES, PAIRS
from pipelines.train.order import Order
from pipelines.train.recipe import ContrastiveRecipe

CODE_DIGITS = 15  # 60 bits of a hash, as `negatives` has them
# A hint for a join that brings texts or vectors. Spark guesses sizes by types: it took 168,000 vectors of
# 384 numbers for 8 MB and would have sent them to every task, which the driver's memory ended (2026-11-28).
MERGED = "merge"


def answers(spark: SparkSession, lake: Lake, table: str, recipe: ContrastiveRecipe) -> DataFrame:
    """The rows of `judgements` or `negatives` that the recipe means, of its sources.

    Raises:
        CatalogError: There is no such table.
        TrainingError: There are none, or those of several teachers or settings.
    """
    lake.table(table)
    rows = spark.table(lake.spark_identifier(table))
    rows = rows.where(F.col("source").isin([source.name for source in recipe.sources]))
    asked = sorted(row["asked"] for row in rows.select("asked").distinct().collect())
    if recipe.teacher is not None:
        asked = [each for each in asked if is_meant(each, recipe.teacher)]
        rows = rows.where(F.col("asked").isin(asked))
    if len(asked) != 1:
        found = ", ".join(asked) or "none"
        raise TrainingError(
            f"the recipe needs the {table} of one teacher, and there are of its sources: {found}",
            "Name one in the recipe's teacher" if asked else "Run 'embedlake filter' and 'embedlake mine'",
        )
    return rows


def is_meant(asked: str, teacher: str) -> bool:
    """Whether one, cut at slashes, begins with the other: `negatives` ask more than `judgements`."""
    return all(one == other for one, other in zip(asked.split("/"), teacher.split("/"), strict=False))


def with_negatives(
    spark: SparkSession, lake: Lake, placed: DataFrame, order: Order, recipe: ContrastiveRecipe
) -> DataFrame:
    """The pairs with `negatives`, an array of document and document_hash; fewer where there are no more.

    Args:
        spark: The session.
        lake: With the hard negatives.
        placed: See `placed_pairs`.
        order: Of the batches.
        recipe: Which source has which, and how many.
    """
    by_kind = {
        kind: [source.name for source in recipe.sources if source.negatives == kind]
        for kind in ("mined", "random")
    }
    everything = spark.table(lake.spark_identifier(PAIRS.name)).where("outcome = 'kept'")
    code = F.conv(F.substring("document_hash", 1, CODE_DIGITS), 16, 10).cast("bigint")
    keys = ("source", "epoch", "step", "slot", "pair_id", "query_hash")
    parts = []
    if by_kind["mined"]:
        mined = answers(spark, lake, NEGATIVES.name, recipe).select("pair_id", "documents")
        chosen = _drawn(recipe, F.col("documents"))
        wanted = (
            placed.where(F.col("source").isin(by_kind["mined"]))
            .join(mined, "pair_id")
            .select(*keys, F.posexplode(chosen).alias("at", "code"))
        )
        documents = everything.groupBy("source", code.alias("code")).agg(
            F.first("document").alias("document"), F.first("document_hash").alias("document_hash")
        )
        parts.append(
            wanted.join(documents.hint(MERGED), ["source", "code"]).drop("code")
        )  # texts: not broadcast
    if by_kind["random"]:
        parts.append(_random(placed.where(F.col("source").isin(by_kind["random"])), recipe, order, keys))
    found = parts[0] if len(parts) == 1 else parts[0].unionByName(parts[1])
    positives = everything.select("source", "query_hash", "document_hash").distinct()
    found = found.join(positives, ["source", "query_hash", "document_hash"], "left_anti")
    listed = found.groupBy("step", "slot").agg(
        F.sort_array(F.collect_list(F.struct("at", "document", "document_hash"))).alias("negatives")
    )
    return placed.join(listed.hint(MERGED), ["step", "slot"], "left")


def _drawn(recipe: ContrastiveRecipe, codes: Column) -> Column:
    """So many of the codes as the recipe has negatives, drawn anew in every epoch."""
    drawn = F.transform(
        codes,
        lambda code: F.struct(
            F.xxhash64(F.lit(recipe.seed), F.col("epoch"), F.col("pair_id"), code).alias("draw"),
            code.alias("code"),
        ),
    )
    return F.transform(F.slice(F.array_sort(drawn), 1, recipe.negatives), lambda item: item["code"])


def _random(placed: DataFrame, recipe: ContrastiveRecipe, order: Order, keys: tuple[str, ...]) -> DataFrame:
    """Documents of other pairs of the same unit and epoch: all pairs shifted, by another share for each."""
    shares = np.sort(np.random.default_rng((recipe.seed, 1)).uniform(0.02, 0.98, recipe.negatives))
    sizes = [batches * order.batch for batches in order.batches.values()]
    of_unit = placed.sparkSession.createDataFrame(pa.table({"unit": list(order.batches), "size": sizes}))
    shifts = F.array(*(F.lit(float(share)) for share in shares))
    wanted = placed.select(*keys, "unit", "number", F.posexplode(shifts).alias("at", "share"))
    wanted = wanted.join(F.broadcast(of_unit), "unit")
    shift = 1 + F.floor(F.col("share") * (F.col("size") - 1))
    wanted = wanted.withColumn("other", F.pmod(F.col("number") + shift, F.col("size")))
    documents = placed.select("unit", "epoch", F.col("number").alias("other"), "document", "document_hash")
    return wanted.join(documents.hint(MERGED), ["unit", "epoch", "other"]).drop(
        "unit", "number", "share", "size", "other"
    )
