"""A run of `embedlake pairs`: each source's pairs are replaced by what its table gives now."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.dedup.signing import signer
from pipelines.dedup.spark_sql import cut
from pipelines.lake import Lake
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session
from pipelines.lake.training_tables import LABELLED_BY_PROPERTY, PAIRS
from pipelines.pairs.config import PairsConfig, PairSourceConfig
from pipelines.pairs.extract import extracted
from pipelines.pairs.judge import judged
from pipelines.pairs.overlap import query_grams, read_queries
from pipelines.progress import Progress


@dataclass(frozen=True)
class SourceReport:
    """What became of one source.

    Attributes:
        source: Its name.
        read: Rows of its table.
        outcomes: Distinct pairs by outcome; of those rejected, by reason.
        changed: Whether its pairs are others than before.
    """

    source: str
    read: int
    outcomes: Mapping[str, int]
    changed: bool


@dataclass(frozen=True)
class PairsReport:
    """What a run did.

    Attributes:
        sources: By source, in the order of the configuration.
        seconds: Of the run.
    """

    sources: Sequence[SourceReport]
    seconds: float


def make_pairs(lake: Lake, config: PairsConfig, spark_config: SparkConfig, progress: Progress) -> PairsReport:
    """Reads each source's table and makes its pairs those that the table gives.

    A source is one commit: killed before it, its pairs are as they were; run again with nothing changed,
    nothing is written. Sources that are not named stay.

    Args:
        lake: The table of pairs is created where absent.
        config: Of the run.
        spark_config: How Spark is run.
        progress: Told of each source.

    Raises:
        InputError: A table or column is not there, or the evaluation queries cannot be read.
    """
    began = monotonic()
    grams = query_grams(read_queries(config.overlap.queries), config.overlap.words)
    lake.ensure_namespace()
    lake.create(PAIRS)
    labelled_by = json.dumps(config.overlap.labelled_by)
    if lake.table(PAIRS.name).properties.get(LABELLED_BY_PROPERTY, "[]") != labelled_by:
        lake.set_property(PAIRS.name, LABELLED_BY_PROPERTY, labelled_by)
    reports = []
    with spark_session(lake, spark_config) as spark:
        for source in config.sources:
            with progress.step(f"pairs of {source.name}", None, "pairs"):
                found = extracted(spark, lake, source, config, grams, signer(config.near))
                reports.append(_replaced(spark, lake, source, cut(judged(spark, found, config))))
    return PairsReport(reports, monotonic() - began)


def _replaced(spark: SparkSession, lake: Lake, source: PairSourceConfig, pairs: DataFrame) -> SourceReport:
    query_prefix, document_prefix = source.prefixes
    rows = pairs.select(
        "pair_id",
        F.lit(source.name).alias("source"),
        *("query", "document", "query_hash", "document_hash", "part"),
        F.lit(source.objective).alias("objective"),
        F.lit(query_prefix).alias("query_prefix"),
        F.lit(document_prefix).alias("document_prefix"),
        *("ordinal", "copies", "outcome", "detail"),
    )
    name = lake.spark_identifier(PAIRS.name)
    before = spark.table(name).where(F.col("source") == source.name)
    changed = _digest(rows) != _digest(before)
    if changed:
        # One file and more for each source, whichever tasks made its rows.
        rows.sortWithinPartitions("pair_id").writeTo(name).overwrite(F.col("source") == source.name)
    counts = pairs.groupBy(
        F.when(F.col("outcome") == "rejected", F.col("detail")).otherwise(F.col("outcome")).alias("outcome")
    ).agg(F.count(F.lit(1)).alias("pairs"), F.sum("copies").alias("copies"))
    by_outcome = {row["outcome"]: row for row in counts.collect()}
    return SourceReport(
        source=source.name,
        read=sum(row["copies"] for row in by_outcome.values()),
        outcomes={outcome: by_outcome[outcome]["pairs"] for outcome in sorted(by_outcome)},
        changed=changed,
    )


def _digest(rows: DataFrame) -> tuple[int, int]:
    """Equal for the same rows in any order; the place that they were read at does not count."""
    names = [name for name in PAIRS.schema.column_names if name != "ordinal"]
    found = rows.agg(
        F.count(F.lit(1)).alias("rows"),
        F.sum(F.xxhash64(*names).cast("decimal(38,0)")).alias("hashes"),
    ).first()
    assert found is not None  # an aggregate has a row
    return int(found["rows"]), int(found["hashes"] or 0)
