"""Judges nodes, which are distinct texts, against each other: kept, or removed for a kept one."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.dedup.candidates import candidate_pairs, in_buckets
from pipelines.dedup.config import NearConfig
from pipelines.dedup.near_driver import Judged, Nodes, distinct_nodes, judge_nodes
from pipelines.dedup.resolve import removed_nodes
from pipelines.dedup.spark_sql import KEPT, among, at_most, cut, empty_frame, not_among
from pipelines.dedup.verify import verified_edges


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
    """

    spark: SparkSession
    config: NearConfig
    texts: DataFrame

    def judge(self, documents: DataFrame, standing: DataFrame | None) -> Verdicts:
        """Judges the documents' texts against each other and against those that stand.

        Args:
            documents: text_hash, place, bands; all documents of each text.
            standing: The same with `outcome`, of texts whose verdict is known already; such of `documents`
                do not count. None where there are none.
        """
        documents = documents.select("text_hash", "place", "bands")
        if not self.config.enabled:
            nobody = empty_frame(self.spark, "text_hash string, keeper string, similarity double")
            nothing = empty_frame(self.spark, "text_hash string, neighbour string")
            return Verdicts(_verdicts(nodes_of(documents), nobody), nothing)
        few = at_most(documents, self.config.driver_nodes)
        if few is None:
            numbered = nodes_of(documents).withColumn("node", F.monotonically_increasing_id())
            return self._spread(cut(numbered), standing)
        few = distinct_nodes(few)
        open_nodes = F.broadcast(self.spark.createDataFrame(few))
        judged = self._here(few, open_nodes, standing)
        if judged is None:
            numbers = pa.array(np.arange(few.num_rows))
            open_nodes = cut(self.spark.createDataFrame(few.append_column("node", numbers)))
            return self._spread(open_nodes, standing)
        keepers = F.broadcast(self.spark.createDataFrame(judged.keepers))
        return Verdicts(_verdicts(open_nodes, keepers), self.spark.createDataFrame(judged.pulled))

    def _here(self, few: pa.Table, open_nodes: DataFrame, standing: DataFrame | None) -> Judged | None:
        """Judges few nodes in this process; None where those beside them are too many."""
        beside = None
        if standing is not None:
            wanted = F.broadcast(open_nodes.select(F.explode("bands").alias("key")))
            others = _signed_others(open_nodes, standing)
            beside = at_most(standing_nodes(in_buckets(others, wanted)), self.config.driver_nodes)
            if beside is None:
                return None
        return judge_nodes(Nodes.of(few, beside), self._texts_of, self.config)

    def _spread(self, open_nodes: DataFrame, standing: DataFrame | None) -> Verdicts:
        """Judges many nodes, spread over the executors. They go by numbers, a quarter of a hash's bytes.

        Args:
            open_nodes: text_hash, place, bands, and `node`, different numbers that are not negative.
            standing: As `judge` has it.
        """
        nodes = open_nodes.withColumns({"is_open": F.lit(True), "is_kept": F.lit(False)})
        if standing is not None:
            keys = open_nodes.select(F.explode("bands").alias("key")).distinct()
            others = _signed_others(open_nodes, standing)
            # Looked up by their hashes alone: whole rows, one for each band, would all be shuffled.
            hashes = cut(in_buckets(others.select("text_hash", "bands"), keys).select("text_hash").distinct())
            beside = standing_nodes(among(others, hashes, "text_hash"))
            beside = cut(beside.withColumn("node", -1 - F.monotonically_increasing_id()))
            nodes = nodes.unionByName(beside.withColumn("is_open", F.lit(False)))
        signed = nodes.where(F.col("bands").isNotNull())
        pairs = cut(candidate_pairs(signed, self.config))
        groups = self.spark.sparkContext.defaultParallelism
        edges = verified_edges(pairs, nodes, self.texts, self.config, groups)
        for end in ("earlier", "later"):
            names = ("node", "text_hash", "place", "is_open", "is_kept")
            info = nodes.select(*(F.col(name).alias(f"{end}_{name}") for name in names))
            edges = edges.join(info, F.col(end) == F.col(f"{end}_node")).drop(f"{end}_node")
        edges = cut(edges)
        between = edges.where("earlier_is_open and later_is_open")
        by_standing = edges.where("not earlier_is_open and earlier_is_kept and later_is_open")
        removed = by_standing.selectExpr("later as node").distinct()
        removed = cut(removed_nodes(self.spark, between, removed))
        keeping = not_among(between, removed, "earlier", "node").unionByName(by_standing)
        pulled = edges.where("earlier_is_open and not later_is_open")
        pulled = pulled.selectExpr("earlier_text_hash as text_hash", "later_text_hash as neighbour")
        # The first by priority, and not the most alike: what comes later cannot change it.
        keepers = keeping.groupBy(F.col("later_text_hash").alias("text_hash")).agg(
            F.min("earlier_place").getField("doc_id").alias("keeper"),
            F.min_by("similarity", "earlier_place").alias("similarity"),
        )
        return Verdicts(_verdicts(open_nodes, keepers), pulled)

    def _texts_of(self, hashes: pa.Array) -> pa.Table:
        wanted = F.broadcast(self.spark.createDataFrame(pa.table({"text_hash": hashes})))
        return among(self.texts, wanted, "text_hash").select("text_hash", "text").toArrow()


def _signed_others(open_nodes: DataFrame, standing: DataFrame) -> DataFrame:
    """The standing documents that may share a bucket with an open node."""
    return not_among(standing.where(F.col("bands").isNotNull()), open_nodes, "text_hash")


def standing_nodes(documents: DataFrame) -> DataFrame:
    """The distinct texts of standing documents: text_hash, place, bands, is_kept."""
    return nodes_of(documents, (F.min_by("outcome", "place") == KEPT).alias("is_kept"))


def nodes_of(documents: DataFrame, *more: Column) -> DataFrame:
    """The distinct texts of documents: text_hash, the first document's place, bands, and more aggregates."""
    return documents.groupBy("text_hash").agg(
        F.min("place").alias("place"), F.first("bands").alias("bands"), *more
    )


def _verdicts(open_nodes: DataFrame, keepers: DataFrame) -> DataFrame:
    return open_nodes.select("text_hash", "place").join(keepers, "text_hash", "left")
