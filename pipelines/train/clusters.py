"""Clusters of a source as what batches are drawn from (arXiv 2407.18887): k-means of documents. Spark."""
# ruff: noqa: N803, N806  (array names carry their shape: x_ND)

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.lake import Lake
from pipelines.lake.beside import DOCUMENT, Teacher
from pipelines.lake.vectors import as_matrix
from pipelines.train.guide import vectors
from pipelines.train.negatives import MERGED
from pipelines.train.recipe import ContrastiveRecipe

Batches = Iterable[pa.RecordBatch]
Vectors = npt.NDArray[np.float32]

_SAMPLE = 64  # vectors for each centroid: faiss takes 39 to 256 of them without a word
_ROUNDS = 20


def clustered(
    spark: SparkSession, lake: Lake, teacher: Teacher, pairs: DataFrame, recipe: ContrastiveRecipe
) -> DataFrame:
    """The pairs with `unit`, `source/cluster`. Those whose document has no vector are left out.

    Centroids are fitted on the driver, on a sample; the pairs are told theirs where they lie.

    Args:
        spark: The session.
        lake: With the pairs; the teacher has embedded their texts.
        teacher: Who.
        pairs: With pair_id and source.
        recipe: Its seed, and how large clusters are on average.
    """
    assert recipe.clusters is not None
    counts = {row["source"]: row["count"] for row in pairs.groupBy("source").count().collect()}
    sizes = {source: max(1, count // recipe.clusters.pairs) for source, count in counts.items()}
    known = pairs.select("pair_id", "source").join(
        vectors(spark, lake, teacher, DOCUMENT).select("pair_id", "guide").hint(MERGED), "pair_id"
    )
    centroids = {
        source: fitted(_sample(known, source, _SAMPLE * size, recipe.seed), size, recipe.seed)
        for source, size in sizes.items()
    }
    units = known.mapInArrow(_assigning(centroids), "pair_id string, unit string")
    return pairs.drop("unit").join(units, "pair_id")


def fitted(x_ND: Vectors, clusters: int, seed: int) -> Vectors:
    """Centroids of k-means, x_KD float32 of length 1; fewer than asked for where there are fewer vectors."""
    import faiss

    clusters = max(1, min(clusters, len(x_ND)))
    kmeans = faiss.Kmeans(
        x_ND.shape[1], clusters, niter=_ROUNDS, seed=seed, spherical=True, min_points_per_centroid=1
    )
    kmeans.train(np.ascontiguousarray(x_ND))
    assert kmeans.centroids is not None  # it has been trained
    return np.asarray(kmeans.centroids, dtype=np.float32)


def _sample(known: DataFrame, source: str, count: int, seed: int) -> Vectors:
    drawn = known.where(F.col("source") == source).withColumn("draw", F.xxhash64(F.lit(seed), "pair_id"))
    rows = drawn.orderBy("draw", "pair_id").limit(count).select("guide").toArrow()
    vectors_N = rows.column("guide")
    return as_matrix(vectors_N, len(vectors_N[0]))


def _assigning(centroids: Mapping[str, Vectors]) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    def assign(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if not batch.num_rows:
                continue
            rows = pa.table(batch)
            x_ND = as_matrix(rows.column("guide"), len(rows.column("guide")[0]))
            sources = np.array(rows.column("source").to_pylist())
            units = np.empty(len(rows), dtype=object)
            for source in set(sources.tolist()):
                of_source = sources == source
                nearest = (x_ND[of_source] @ centroids[source].T).argmax(axis=1)
                units[of_source] = [f"{source}/{cluster:05d}" for cluster in nearest.tolist()]
            yield pa.RecordBatch.from_pydict(
                {"pair_id": batch.column("pair_id"), "unit": pa.array(units.tolist(), pa.string())}
            )

    return assign
