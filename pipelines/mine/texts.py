"""Kept pairs to texts for a teacher: two `chunks` a pair, in windows of their source. Spark."""

from collections.abc import Callable, Iterable, Iterator
from uuid import uuid4

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.encoder.conf import ModelConf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.beside import DOCUMENT, QUERY, pairs_lake, text_id
from pipelines.lake.branch import branch
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session
from pipelines.lake.training_tables import PAIRS
from pipelines.mine.config import MineConfig

Batches = Iterable[pa.RecordBatch]

POSITIVES = "positives"  # in `metadata` of a query with several documents: their hashes, with commas
_TEXT_DDL = (
    "chunk_id string, doc_id string, source string, ordinal int, text string, text_hash string, "
    "char_start int, char_end int, input_ids array<int>, n_tokens int, metadata map<string,string>"
)
_TEXT_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("chunk_id", "doc_id", "source")),
        ("ordinal", pa.int32()),
        *((name, pa.string()) for name in ("text", "text_hash")),
        *((name, pa.int32()) for name in ("char_start", "char_end")),
        ("input_ids", pa.list_(pa.int32())),
        ("n_tokens", pa.int32()),
        ("metadata", pa.map_(pa.string(), pa.string())),
    ]
)


def write_texts(lake: Lake, teacher: ModelConf, config: MineConfig, spark_config: SparkConfig) -> int:
    """Gives each kept pair that has none a window, and writes its texts there.

    One commit, of all or nothing, and only if nobody else has written texts meanwhile: a pair is in one
    window, and its window is what it was in every later run. Texts of pairs that are gone stay, and are still
    ranked against.

    Args:
        lake: With the pairs.
        teacher: Whose tokenizer makes the ids.
        config: Windows, and where texts are cut.
        spark_config: How Spark is run.

    Returns:
        Pairs that got a window.

    Raises:
        ModelError: The texts that there are were made by another tokenizer.
    """
    texts = pairs_lake(lake)
    texts.ensure_tables()
    tokenizer = Tokenizer.load(teacher)
    texts.bind_tokenizer(tokenizer.fingerprint)
    longest = max(tokenizer.overhead(teacher.prefix(role)) for role in ("query", "document"))
    room = config.max_tokens - longest
    with spark_session(lake, spark_config) as spark:
        while True:
            with branch(spark, texts, "chunks", uuid4().hex[:12]) as writing:
                new = _without_window(spark, lake, texts)
                count = new.count()
                if not count:
                    return 0
                windowed = _windowed(spark, texts, new, config)
                rows = windowed.mapInArrow(_writer(teacher, room), _TEXT_DDL)
                rows.writeTo(writing.identifier).append()
                if writing.publish():
                    return count


def _without_window(spark: SparkSession, lake: Lake, texts: Lake) -> DataFrame:
    """Kept pairs without texts, each with the hashes of all documents of its query."""
    pairs = spark.table(lake.spark_identifier(PAIRS.name)).where("outcome = 'kept'")
    known = spark.table(texts.spark_identifier("chunks")).where(F.col("ordinal") == QUERY).select("doc_id")
    several = (
        pairs.groupBy("source", "query_hash")
        .agg(F.collect_set("document_hash").alias("hashes"))
        .where(F.size("hashes") > 1)
        .select("source", "query_hash", F.concat_ws(",", F.sort_array("hashes")).alias(POSITIVES))
    )
    new = pairs.join(known, F.col("pair_id") == F.col("doc_id"), "left_anti")
    return new.join(several, ["source", "query_hash"], "left")


def _windowed(spark: SparkSession, texts: Lake, new: DataFrame, config: MineConfig) -> DataFrame:
    """The pairs with their `window`, after the last that their source has."""
    counts = {row["source"]: row["count"] for row in new.groupBy("source").count().collect()}
    taken = _last_windows(spark, texts)
    window: Column = F.lit(None).cast("int")
    for source, count in counts.items():
        windows = -(-count // config.window)
        if config.order == "sampled":
            # By the query, so that all its pairs are in one.
            number = F.pmod(F.xxhash64(F.lit(config.seed), "query_hash"), F.lit(windows))
        else:
            ends = [at / windows for at in range(1, windows)]
            of_source = new.where(F.col("source") == source)
            cuts = of_source.approxQuantile("ordinal", ends, 0.001) if ends else []
            number = sum((F.when(F.col("ordinal") > cut, 1).otherwise(0) for cut in cuts), F.lit(0))
        first = taken.get(source, -1) + 1
        window = F.when(F.col("source") == source, number + first).otherwise(window)
    return new.withColumn("window", window.cast("int"))


def _last_windows(spark: SparkSession, texts: Lake) -> dict[str, int]:
    names = spark.table(texts.spark_identifier("chunks")).select("source").distinct().collect()
    last: dict[str, int] = {}
    for row in names:
        source, _, number = row["source"].rpartition("/")
        last[source] = max(last.get(source, -1), int(number))
    return last


def _writer(teacher: ModelConf, room: int) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    """A function over batches of pairs that yields their texts."""

    def write(batches: Batches) -> Iterator[pa.RecordBatch]:
        tokenizer = Tokenizer.load(teacher)
        for batch in batches:
            rows = batch.to_pylist()
            for ordinal, side in ((QUERY, "query"), (DOCUMENT, "document")):
                found = tokenizer.encode_batch([row[side] for row in rows])
                ids = [own[:room] for own, _ in found]
                told = [row[POSITIVES] if ordinal == QUERY else None for row in rows]
                columns = {
                    "chunk_id": [text_id(row["pair_id"], ordinal) for row in rows],
                    "doc_id": [row["pair_id"] for row in rows],
                    "source": [window_name(row["source"], row["window"]) for row in rows],
                    "ordinal": [ordinal] * len(rows),
                    "text": [row[side] for row in rows],
                    "text_hash": [row[f"{side}_hash"] for row in rows],
                    "char_start": [0] * len(rows),
                    "char_end": [len(row[side]) for row in rows],
                    "input_ids": ids,
                    "n_tokens": [len(own) for own in ids],
                    "metadata": [{} if hashes is None else {POSITIVES: hashes} for hashes in told],
                }
                arrays = [pa.array(columns[field.name], field.type) for field in _TEXT_SCHEMA]
                yield pa.RecordBatch.from_arrays(arrays, schema=_TEXT_SCHEMA)

    return write


def window_name(source: str, number: int) -> str:
    """The `source` of a window's texts."""
    return f"{source}/{number:06d}"
