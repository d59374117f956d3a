"""Who is kept of nodes that resemble each other: the lexicographically first maximal independent set.

In rounds of joins while there are many edges, each round deciding every node whose earlier neighbours are
decided; the rest, where long chains may want thousands of rounds, on the driver in time linear in it.
"""

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from pipelines.dedup.independent import first_independent_set
from pipelines.dedup.spark_sql import among, cut, not_among

# Edges that the driver decides alone: a choice, not yet measured.
DRIVER_EDGES = 1_000_000


def removed_nodes(
    spark: SparkSession, edges: DataFrame, removed: DataFrame, driver_edges: int = DRIVER_EDGES
) -> DataFrame:
    """The nodes (column `node`, a number) that are not in the set.

    Args:
        spark: The session.
        edges: `earlier`, `later`; of higher and of lower priority.
        removed: Nodes (`node`) that a node outside of the edges has removed already.
        driver_edges: So many edges the driver decides.
    """
    open_edges = cut(_without(edges.select("earlier", "later"), removed))
    while open_edges.count() > driver_edges:
        first = not_among(open_edges, open_edges, "earlier", "later").select("earlier").distinct()
        beside = cut(among(open_edges, first, "earlier").selectExpr("later as node").distinct())
        removed = removed.unionByName(beside)
        open_edges = cut(_without(open_edges, beside))
    return removed.unionByName(_on_the_driver(spark, open_edges.toArrow())).distinct()


def _without(edges: DataFrame, removed: DataFrame) -> DataFrame:
    return not_among(not_among(edges, removed, "earlier", "node"), removed, "later", "node")


def _on_the_driver(spark: SparkSession, edges: pa.Table) -> DataFrame:
    first, second = (np.asarray(edges.column(name)).astype(np.int64) for name in ("earlier", "later"))
    nodes, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    is_kept = first_independent_set(len(nodes), codes[: len(first)], codes[len(first) :])
    return spark.createDataFrame(pa.table({"node": nodes[~is_kept]}), "node bigint")
