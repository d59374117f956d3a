"""Judges nodes, which are distinct texts, against each other: kept, or removed for a kept one."""

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate.candidates import bucket_neighbours, candidate_pairs
from pipelines.curate.config import NearConfig
from pipelines.curate.resolve import removed_nodes
from pipelines.curate.spark_sql import KEPT, among, cut, not_among
from pipelines.curate.verify import verified_edges


@dataclass(frozen=True)
class Verdicts:
    """What became of the open nodes.

    Attributes:
        nodes: One row per open node: text_hash, place, `keeper` (doc_id of the first kept
            document that it resembles; null where it is kept) and their `similarity`.
        pulled: text_hash and `neighbour` of verified edges from an open node to a node of lower priority
            that is not open.
    """

    nodes: DataFrame
    pulled: DataFrame


@dataclass(frozen=True)
class NearJudge:
    """Judges nodes by the near duplicates among them.

    Attributes:
        spark: The session.
        config: Of near dedup.
        texts: text_hash, n_chars, text of all documents; a text may stand in several rows.
        standing: The documents after the run's changes, as in `pipelines.curate.judge.Corpus`.
    """

    spark: SparkSession
    config: NearConfig
    texts: DataFrame
    standing: DataFrame

    def judge(self, open_nodes: DataFrame, others: bool) -> Verdicts:
        """Judges the open nodes against each other and against the standing documents.

        Args:
            open_nodes: text_hash, place, bands.
            others: Whether there are standing documents.
        """
        if not self.config.enabled:
            kept = open_nodes.selectExpr(
                "text_hash", "place", "string(null) keeper", "double(null) similarity"
            )
            return Verdicts(kept, kept.selectExpr("text_hash", "text_hash neighbour").where("false"))
        nodes = open_nodes.select("text_hash", "place", "bands", F.lit(True).alias("is_open"))
        info = nodes.select("text_hash", "place", "is_open", F.lit(False).alias("is_kept"))
        if others:
            neighbours = cut(self._neighbours(open_nodes))
            nodes = nodes.unionByName(neighbours.select("text_hash", "place", "bands", "is_open"))
            info = info.unionByName(neighbours.select("text_hash", "place", "is_open", "is_kept"))
        signed = nodes.where(F.col("bands").isNotNull())
        pairs = cut(candidate_pairs(signed, self.config))
        groups = self.spark.sparkContext.defaultParallelism
        edges = verified_edges(pairs, self.texts, self.config, groups)
        for end in ("earlier", "later"):
            renamed = info.select(*(F.col(name).alias(f"{end}_{name}") for name in info.columns))
            edges = edges.join(renamed, F.col(end) == F.col(f"{end}_text_hash")).drop(f"{end}_text_hash")
        edges = cut(edges)
        between = edges.where("earlier_is_open and later_is_open")
        by_standing = edges.where("not earlier_is_open and earlier_is_kept and later_is_open")
        removed = by_standing.selectExpr("later as text_hash").distinct()
        removed = cut(removed_nodes(self.spark, between, removed))
        keeping = not_among(between, removed, "earlier", "text_hash").unionByName(by_standing)
        pulled = edges.where("earlier_is_open and not later_is_open")
        pulled = pulled.selectExpr("earlier as text_hash", "later as neighbour")
        return Verdicts(_verdicts(open_nodes, keeping), pulled)

    def _neighbours(self, open_nodes: DataFrame) -> DataFrame:
        """The standing nodes that share a bucket with an open one."""
        standing = not_among(self.standing.where(F.col("bands").isNotNull()), open_nodes, "text_hash")
        hashes = bucket_neighbours(open_nodes.where(F.col("bands").isNotNull()), standing)
        return (
            among(standing, hashes, "text_hash")
            .groupBy("text_hash")
            .agg(
                F.min("place").alias("place"),
                F.first("bands").alias("bands"),
                (F.min_by("outcome", "place") == KEPT).alias("is_kept"),
            )
            .withColumn("is_open", F.lit(False))
        )


def _verdicts(open_nodes: DataFrame, keeping: DataFrame) -> DataFrame:
    # The first by priority, and not the most alike: what comes later cannot change it.
    keepers = keeping.groupBy(F.col("later").alias("text_hash")).agg(
        F.min("earlier_place").getField("doc_id").alias("keeper"),
        F.min_by("similarity", "earlier_place").alias("similarity"),
    )
    return open_nodes.select("text_hash", "place").join(keepers, "text_hash", "left")
