"""Rows of a table to pairs: normalised, hashed, and told where they give an evaluation query away."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.dedup.signing import Signer
from pipelines.errors import InputError
from pipelines.lake import Lake
from pipelines.pairs.config import PairsConfig, PairSourceConfig
from pipelines.pairs.overlap import given_away
from pipelines.text import is_blank, normalise, text_hash

Batches = Iterable[pa.RecordBatch]

FOUND_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("pair_id", "query", "document", "query_hash", "document_hash")),
        ("part", pa.string()),
        ("ordinal", pa.int64()),
        ("outcome", pa.string()),
        ("detail", pa.string()),
        ("n_chars", pa.int32()),
        ("bands", pa.list_(pa.int64())),
    ]
)
FOUND_DDL = (
    "pair_id string, query string, document string, query_hash string, document_hash string, part string, "
    "ordinal bigint, outcome string, detail string, n_chars int, bands array<bigint>"
)


def extracted(
    spark: SparkSession,
    lake: Lake,
    source: PairSourceConfig,
    config: PairsConfig,
    grams: Mapping[int, str],
    sign: Signer | None,
) -> DataFrame:
    """The pairs of a source, with the columns of `FOUND_SCHEMA`; `outcome` is null where it is still open.

    Args:
        spark: The session.
        lake: Whose catalogue has the table.
        source: What to read.
        config: Of the run.
        grams: Of the evaluation queries; see `query_grams`.
        sign: Gives the band keys of query and document together; None where near duplicates stay.

    Raises:
        InputError: There is no such table or column, or the condition cannot be read.
    """
    rows = _table(spark, lake, source)
    try:
        if source.where is not None:
            rows = rows.where(source.where)
        if source.order is not None:
            rows = rows.orderBy(_column(source.order))
        elif source.table == "documents":
            rows = rows.orderBy("input", "file", "position")
        part = F.lit(None) if source.part is None else _column(source.part)
        rows = rows.select(
            _column(source.query).cast("string").alias("query"),
            _column(source.document).cast("string").alias("document"),
            part.cast("string").alias("part"),
            F.monotonically_increasing_id().alias("ordinal"),
        )
    except AnalysisException as error:
        reason = str(error).splitlines()[0][:300]
        raise InputError(
            f"source '{source.name}' does not fit the table '{source.table}': {reason}",
            "Correct query, document, part, order or where",
        ) from error
    return rows.mapInArrow(_finder(source.name, config, grams, sign), FOUND_DDL)


def _table(spark: SparkSession, lake: Lake, source: PairSourceConfig) -> DataFrame:
    if source.table == "documents":
        lake.table("documents")  # says what to do where it is not there
        return spark.table(lake.spark_identifier("documents")).where("outcome = 'kept'")
    quoted = ".".join(f"`{part}`" for part in (lake.config.name, *source.table.split(".")))
    try:
        return spark.table(quoted)
    except AnalysisException as error:
        raise InputError(
            f"source '{source.name}': the catalogue has no table '{source.table}'",
            "Name it as namespace.table; files become the table 'documents' by 'embedlake curate'",
        ) from error


def _column(name: str) -> Column:
    column, dot, key = name.partition(".")
    return F.col(f"`{column}`")[key] if dot else F.col(f"`{column}`")


def _finder(
    source: str, config: PairsConfig, grams: Mapping[int, str], sign: Signer | None
) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    """A function over batches of (query, document, part, ordinal)."""

    def find(batches: Batches) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = [found_pair(source, config, grams, row) for row in batch.to_pylist()]
            texts = pa.array([f"{row['query']}\n{row['document']}" for row in rows], pa.large_string())
            bands = pa.nulls(len(rows), pa.list_(pa.int64())) if sign is None else sign(texts)
            columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in FOUND_SCHEMA]
            yield pa.RecordBatch.from_arrays([*columns[:-1], bands], schema=FOUND_SCHEMA)

    return find


def found_pair(
    source: str, config: PairsConfig, grams: Mapping[int, str], row: Mapping[str, object]
) -> dict[str, object]:
    """One row as a pair, with the reason where it cannot be one.

    Args:
        source: Its source.
        config: Of the run.
        grams: Of the evaluation queries.
        row: query, document, part, ordinal.
    """
    query, document = (
        normalise(str(row[side])) if row[side] is not None else "" for side in ("query", "document")
    )
    outcome, detail = None, None
    for side, text in (("query", query), ("document", document)):
        if len(text) < config.least_chars or is_blank(text):
            outcome, detail = "rejected", f"short_{side}"
            break
    else:
        if query == document:
            outcome, detail = "rejected", "equal_sides"
        elif grams:
            size = config.overlap.words
            detail = given_away(query, grams, size) or given_away(document, grams, size)
            outcome = "contaminated" if detail is not None else None
    return {
        "pair_id": text_hash("\0".join((str(len(source)), source, str(len(query)), query, document))),
        "query": query,
        "document": document,
        "query_hash": text_hash(query),
        "document_hash": text_hash(document),
        "part": row["part"],
        "ordinal": row["ordinal"],
        "outcome": outcome,
        "detail": detail,
        "n_chars": len(query) + len(document),
    }
