"""Verifies candidate pairs by their true Jaccard similarity: the only thing that removes a document."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.dedup.config import NearConfig
from pipelines.dedup.jaccard import similarities
from pipelines.dedup.shingles import shingle

EDGE_DDL = "earlier bigint, later bigint, similarity double"
# Text of one group of pairs, which a Python worker holds at once with its shingles, and its pairs: a choice;
# 8 MiB of text gave the same peak at a million documents, which is that of chunking.
_GROUP_CHARS = 4 << 20
_GROUP_PAIRS = 1 << 21


def verified_edges(
    pairs: DataFrame, nodes: DataFrame, texts: DataFrame, config: NearConfig, least_groups: int
) -> DataFrame:
    """The pairs whose similarity is at least the threshold.

    Pairs are grouped by their later node, so that the leaders of a bucket of many go once to each group
    and not to each pair.

    Args:
        pairs: `earlier`, `later`; nodes, read three times.
        nodes: node, text_hash.
        texts: text_hash, n_chars, text; a text may stand in several rows.
        config: Shingles and threshold.
        least_groups: So many groups at least, to keep all cores busy.

    Returns:
        Columns of `EDGE_DDL`.
    """
    wanted = pairs.select(F.explode(F.array("earlier", "later")).alias("node")).distinct()
    wanted = nodes.select("node", "text_hash").join(wanted, "node")
    involved = texts.join(wanted, "text_hash").dropDuplicates(["node"])
    volume = involved.agg(F.sum("n_chars").alias("chars")).first()
    count = pairs.count()
    if volume is None or not count:
        return pairs.where("false").withColumn("similarity", F.lit(0.0))
    groups = max(least_groups, 2 * (volume["chars"] or 0) // _GROUP_CHARS, count // _GROUP_PAIRS)
    grouped = pairs.withColumn("group", F.pmod(F.hash("later"), F.lit(groups)))
    needed = grouped.select("group", F.explode(F.array("earlier", "later")).alias("node")).distinct()
    shipped = involved.join(needed, "node").selectExpr("group AS of_group", "node", "text")
    return (
        grouped.groupBy("group")
        .cogroup(shipped.groupBy("of_group"))
        .applyInArrow(verifier(config.shingle_words, config.threshold), EDGE_DDL)
    )


def verifier(shingle_words: int, threshold: float) -> Callable[[pa.Table, pa.Table], pa.Table]:
    """A function of a group's pairs and its texts that gives the pairs of at least the threshold."""

    def verify(pairs: pa.Table, texts: pa.Table) -> pa.Table:
        nodes = texts.column("node").combine_chunks()
        first = np.asarray(pc.index_in(pairs.column("earlier"), nodes)).astype(np.int64)
        second = np.asarray(pc.index_in(pairs.column("later"), nodes)).astype(np.int64)
        similarity = similarities_of(texts.column("text").combine_chunks(), first, second, shingle_words)
        # Equal fractions are equal floats; a threshold like 0.8 and 4/5 are the same number.
        is_edge = similarity >= threshold
        edges = pairs.select(["earlier", "later"]).append_column("similarity", pa.array(similarity))
        return edges.filter(pa.array(is_edge))

    return verify


def similarities_of(
    texts: pa.Array, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], shingle_words: int
) -> npt.NDArray[np.float64]:
    """The true Jaccard similarity of pairs of texts, over their sets of shingles.

    Args:
        texts: Normalised, without nulls.
        first: Place of each pair's first text.
        second: Of the other one.
        shingle_words: Words a shingle.
    """
    return similarities(shingle(texts, shingle_words), first, second)
