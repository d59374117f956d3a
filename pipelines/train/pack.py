"""Chunks to the batches of a masked-language-model run, by Spark: packed across documents to one length."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.dedup.spark_sql import cut
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import TrainingError
from pipelines.lake import Lake
from pipelines.lake.config import SparkConfig
from pipelines.lake.lake import check_tokenizer
from pipelines.lake.spark import spark_session
from pipelines.lake.tables import TOKENIZER_PROPERTY
from pipelines.lake.training_tables import BATCHES
from pipelines.progress import Progress
from pipelines.train.order import SEGMENT_ROWS, SHARD_ROWS
from pipelines.train.prepare import replaced
from pipelines.train.prepared import Prepared, data_fingerprint, data_name, record, recorded
from pipelines.train.recipe import MlmRecipe
from pipelines.train.start import Start

Batches = Iterable[pa.RecordBatch]

_PARTITION_TOKENS = 20_000_000  # packed by one task; what is left over at its end is less than a sequence
_PACKED_DDL = "part int, place int, input_ids array<int>"


def prepare_sequences(
    lake: Lake, recipe: MlmRecipe, start: Start, spark_config: SparkConfig, progress: Progress
) -> Prepared:
    """A run's batches, written now unless an earlier call has; see `prepare_pairs`.

    Raises:
        TrainingError: The sources have not a single sequence.
        ModelError: The chunks were made by another tokenizer.
        CatalogError: There are no chunks.
    """
    tokenizer = start.tokenizer
    fingerprint = data_fingerprint(recipe, tokenizer.fingerprint)
    if known := recorded(lake, recipe.name, fingerprint):
        return known
    chunks = lake.table("chunks")
    check_tokenizer(chunks.properties.get(TOKENIZER_PROPERTY, ""), tokenizer.fingerprint)
    lake.create(BATCHES)
    shards = max(1, min(64, recipe.batch // SHARD_ROWS))
    data = data_name(lake, recipe.name, fingerprint, ("chunks",))
    prepared = Prepared(data, recipe.steps, recipe.batch, shards)
    with progress.step("packing sequences", None, "sequences"), spark_session(lake, spark_config) as spark:
        sequences = cut(packed(spark, lake, recipe, tokenizer))
        apart = recipe.held_out * recipe.batch
        count = sequences.count() - apart
        if count < 1:
            raise TrainingError(
                f"the chunks of {', '.join(recipe.sources or ['the lake'])} fill {count + apart} sequences "
                f"of {recipe.tokens} tokens, and {apart} are held out",
                "Curate more text, or lower tokens or held_out in the recipe",
            )
        rows = _placed(sequences, count, recipe, prepared)
        while not replaced(spark, lake, prepared.data, rows):
            pass  # another run has written its batches meanwhile
    record(lake, recipe.name, fingerprint, prepared)
    return prepared


def packed(spark: SparkSession, lake: Lake, recipe: MlmRecipe, tokenizer: Tokenizer) -> DataFrame:
    """Sequences of the recipe's length, in an order that the seed decides: columns of `_PACKED_DDL`."""
    chunks = spark.table(lake.spark_identifier("chunks")).select(
        "chunk_id", "source", "input_ids", "n_tokens"
    )
    if recipe.sources is not None:
        chunks = chunks.where(F.col("source").isin(list(recipe.sources)))
    total = chunks.agg(F.sum("n_tokens").alias("tokens")).first()
    tokens = int(total["tokens"] or 0) if total is not None else 0
    parts = max(1, tokens // _PARTITION_TOKENS)
    draw = F.xxhash64(F.lit(recipe.seed), "chunk_id")
    drawn = chunks.select(
        "input_ids", draw.alias("draw"), F.pmod(draw, F.lit(parts)).cast("int").alias("part")
    )
    ordered = drawn.repartition(parts, "part").sortWithinPartitions("part", "draw")
    head, tail = tokenizer.model_input([], "")
    return ordered.mapInArrow(_packer(recipe.tokens, int(head), int(tail)), _PACKED_DDL)


def _packer(length: int, head: int, tail: int) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    """A function over batches of chunks, ordered by part."""

    def pack(batches: Batches) -> Iterator[pa.RecordBatch]:
        part, place = -1, 0
        left: npt.NDArray[np.int32] = np.empty(0, dtype=np.int32)
        for batch in batches:
            for run in _runs(batch):
                number = run.column("part")[0].as_py()
                if number != part:
                    part, place, left = number, 0, left[:0]
                made, left = pack_rows(run.column("input_ids"), left, length, head, tail)
                if not len(made):
                    continue
                yield pa.RecordBatch.from_pydict(
                    {
                        "part": pa.array([part] * len(made), pa.int32()),
                        "place": pa.array(np.arange(place, place + len(made), dtype=np.int32)),
                        "input_ids": pa.array(list(made), pa.list_(pa.int32())),
                    }
                )
                place += len(made)

    return pack


def pack_rows(
    rows: pa.Array, left: npt.NDArray[np.int32], length: int, head: int, tail: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Texts one after the other, each with `tail` behind it, cut to sequences that begin with `head`.

    Args:
        rows: Lists of token ids.
        left: What earlier rows have left over.
        length: Of a sequence, `head` counted.
        head: Id that each sequence begins with.
        tail: Id that each text ends with.

    Returns:
        ids_SL int32, and what is left over.
    """
    pieces = [left]
    for ids in rows:
        pieces += [np.asarray(ids.values, dtype=np.int32), np.array([tail], dtype=np.int32)]
    stream = np.concatenate(pieces)
    count = len(stream) // (length - 1)
    body = stream[: count * (length - 1)].reshape(count, length - 1)
    return np.insert(body, 0, head, axis=1).astype(np.int32), stream[count * (length - 1) :]


def _runs(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in pieces of one part each."""
    part_N = batch.column("part").to_numpy()  # noqa: N806 - the name carries its shape
    cuts = [0, *(np.flatnonzero(np.diff(part_N)) + 1).tolist(), len(part_N)]
    for first, last in pairwise(cuts):
        if last > first:
            yield batch.slice(first, last - first)


def _placed(sequences: DataFrame, count: int, recipe: MlmRecipe, prepared: Prepared) -> DataFrame:
    """Each sequence at its steps and slots: all of them in every round, in another order each time.

    Those that are held out have the steps after the last.
    """
    needed, apart = recipe.steps * recipe.batch, recipe.held_out * recipe.batch
    # Numbers by one task: sequences are few beside pairs (25 million fill 50 billion tokens).
    first = Window.orderBy(F.xxhash64(F.lit(recipe.seed), "part", "place"), "part", "place")
    sequences = sequences.withColumn("at", F.row_number().over(first) - 1)
    held_out = sequences.where(F.col("at") < apart).withColumn("number", F.col("at") + needed)
    rounds = F.explode(F.sequence(F.lit(0), F.lit((needed - 1) // count))).alias("round")
    draw = F.xxhash64(F.lit(recipe.seed), "round", "part", "place")
    drawn = sequences.where(F.col("at") >= apart).select("*", rounds).withColumn("draw", draw)
    order = Window.partitionBy("round").orderBy("draw", "part", "place")
    numbered = drawn.withColumn("number", F.col("round") * count + F.row_number().over(order) - 1)
    numbered = numbered.where(F.col("number") < needed).select("number", "input_ids")
    numbered = numbered.unionByName(held_out.select("number", "input_ids"))
    segment = max(1, SEGMENT_ROWS // recipe.batch)
    numbered = numbered.withColumns(
        {
            "step": F.floor(F.col("number") / recipe.batch).cast("int"),
            "slot": F.pmod(F.col("number"), F.lit(recipe.batch)).cast("int"),
        }
    )
    return numbered.select(
        F.lit(prepared.data).alias("data"),
        F.floor(F.col("step") / segment).cast("int").alias("segment"),
        F.floor(F.col("slot") * prepared.shards / recipe.batch).cast("int").alias("shard"),
        "step",
        "slot",
        F.lit("packed").alias("unit"),
        "input_ids",
        F.array(F.size("input_ids")).alias("lengths"),
        F.array().cast("array<bigint>").alias("hashes"),
        F.lit(None).cast("array<float>").alias("guide"),
    )
