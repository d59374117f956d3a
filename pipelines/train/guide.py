"""A guide's vectors of the texts of a run's batches, as `embed` has written them. Spark."""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.lake import Lake
from pipelines.lake.beside import DOCUMENT, QUERY, Teacher, pairs_lake
from pipelines.train.negatives import MERGED


def vectors(spark: SparkSession, lake: Lake, guide: Teacher, ordinal: int) -> DataFrame:
    """Of the queries or the documents of all pairs: pair_id, text_hash, guide."""
    key = guide.query if ordinal == QUERY else guide.document
    rows = spark.table(pairs_lake(lake).spark_identifier("embeddings")).where(F.col("model") == key)
    # A pair's texts are the chunks of the document that it is (`text_id`).
    rows = rows.where(F.col("chunk_id").endswith(f":{ordinal}"))
    return rows.select(F.col("doc_id").alias("pair_id"), "text_hash", F.col("embedding").alias("guide"))


def known_to(spark: SparkSession, lake: Lake, guide: Teacher, pairs: DataFrame) -> DataFrame:
    """The pairs of which the guide knows both texts: it may have rejected one."""
    for ordinal in (QUERY, DOCUMENT):
        known = vectors(spark, lake, guide, ordinal).select("pair_id")
        pairs = pairs.join(known.hint(MERGED), "pair_id", "left_semi")
    return pairs


def with_guide(spark: SparkSession, lake: Lake, guide: Teacher, placed: DataFrame) -> DataFrame:
    """The pairs with `guide`, the vectors of query, document and hard negatives, one after the other.

    Hard negatives that the guide has no vector of are left out.

    Args:
        spark: The session.
        lake: With the pairs; the guide has embedded their texts.
        guide: Who.
        placed: Pairs with `step` and `slot`, and `negatives` where the run has some.
    """
    for ordinal, side in ((QUERY, "guide_query"), (DOCUMENT, "guide_document")):
        own = vectors(spark, lake, guide, ordinal).select("pair_id", F.col("guide").alias(side))
        placed = placed.join(own.hint(MERGED), "pair_id")
    both = F.concat("guide_query", "guide_document")
    if "negatives" not in placed.columns:
        return placed.withColumn("guide", both).drop("guide_query", "guide_document")
    wanted = placed.select("step", "slot", F.explode("negatives").alias("negative"))
    hashes = wanted.select(F.col("negative.document_hash").alias("text_hash")).distinct()
    found = (
        vectors(spark, lake, guide, DOCUMENT)
        .join(hashes.hint(MERGED), "text_hash", "left_semi")
        .groupBy("text_hash")
        .agg(F.first("guide").alias("guide"))
        .hint(MERGED)
    )
    listed = (
        wanted.join(found, F.col("negative.document_hash") == F.col("text_hash"))
        .groupBy("step", "slot")
        .agg(F.sort_array(F.collect_list(F.struct("negative", "guide"))).alias("found"))
        .select(
            "step",
            "slot",
            F.col("found.negative").alias("negatives"),
            F.flatten("found.guide").alias("guide_negatives"),
        )
    )
    joined = placed.drop("negatives").join(listed.hint(MERGED), ["step", "slot"], "left")
    # Concatenating with null is null.
    several = F.concat(both, F.coalesce("guide_negatives", F.array().cast("array<float>")))
    return joined.withColumn("guide", several).drop("guide_query", "guide_document", "guide_negatives")
