"""Which texts are worth comparing: those that share a MinHash band (locality-sensitive hashing).

A node is a distinct text, known by its hash. A bucket holds the nodes that share one band's key. A giant one,
of thousands of documents made from one template, must not cost its square: only its first
`bucket_whole` nodes in the order of priority are compared with each other, all further ones with the first
`bucket_leaders`. Whether two nodes are compared so depends on nodes before them alone, so what comes
later never changes it.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.dedup.config import NearConfig
from pipelines.dedup.spark_sql import among, cut


def in_buckets(documents: DataFrame, keys: DataFrame) -> DataFrame:
    """The documents that are in one of the buckets, as often as they are in one.

    Args:
        documents: `bands`, and whatever else there is.
        keys: `key`, of the buckets.
    """
    return among(documents.withColumn("key", F.explode("bands")), keys, "key").drop("key")


def candidate_pairs(nodes: DataFrame, config: NearConfig) -> DataFrame:
    """The pairs of nodes to compare, each once.

    Args:
        nodes: node (a number), place (a struct that sorts by priority), bands, is_open. Pairs of nodes that
            are both not open were compared when they were.
        config: Bounds of a bucket.

    Returns:
        `earlier` and `later`, the node of higher and that of lower priority.
    """
    members = nodes.select("node", "is_open", F.explode("bands").alias("key"))
    # Most buckets hold one node: they go before anything is sorted by priority.
    size = F.count("*").over(Window.partitionBy("key"))
    shared = members.withColumn("size", size).where("size > 1").drop("size")
    placed = shared.join(nodes.select("node", "place"), "node")
    number = F.row_number().over(Window.partitionBy("key").orderBy("place"))
    ranked = cut(placed.select("key", "node", "is_open", number.alias("number")))
    first, second = ranked.alias("first"), ranked.alias("second")
    number_of = F.col("second.number")
    whole = _pairs(
        first.where(F.col("number") < config.bucket_whole), second.where(number_of <= config.bucket_whole)
    )
    led = _pairs(
        first.where(F.col("number") <= config.bucket_leaders), second.where(number_of > config.bucket_whole)
    )
    return whole.unionByName(led).distinct()


def _pairs(first: DataFrame, second: DataFrame) -> DataFrame:
    def both(name: str) -> tuple[Column, Column]:
        return F.col(f"first.{name}"), F.col(f"second.{name}")

    same_key = F.col("first.key") == F.col("second.key")
    in_order = F.col("first.number") < F.col("second.number")
    is_open = F.col("first.is_open") | F.col("second.is_open")
    earlier, later = both("node")
    return first.join(second, same_key & in_order & is_open).select(
        earlier.alias("earlier"), later.alias("later")
    )
