"""Pairs to the batches of a contrastive run, by Spark: drawn, with negatives, tokenised, in order of steps.

Every draw is a hash of the recipe's seed and the pair, so the same pairs give the same batches on any
cluster, and no task sees more than its share of a source.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.encoder.ragged import Ragged
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.beside import Teacher
from pipelines.lake.branch import branch
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session
from pipelines.lake.training_tables import BATCHES, JUDGEMENTS, NEGATIVES, PAIRS
from pipelines.progress import Progress
from pipelines.train.clusters import clustered
from pipelines.train.guide import known_to, with_guide
from pipelines.train.negatives import CODE_DIGITS, answers, with_negatives
from pipelines.train.order import Order, batch_order
from pipelines.train.prepared import Prepared, data_fingerprint, data_name, record, recorded
from pipelines.train.recipe import ContrastiveRecipe
from pipelines.train.start import Start

Batches = Iterable[pa.RecordBatch]

_MADE_FROM = (PAIRS.name, JUDGEMENTS.name, NEGATIVES.name)
_BUCKET_ROWS = 10_000
_SPAN = 2**31
_BATCH_DDL = (
    "data string, segment int, shard int, step int, slot int, unit string, input_ids array<int>, "
    "lengths array<int>, hashes array<bigint>, guide array<float>"
)


def prepare_pairs(
    lake: Lake,
    recipe: ContrastiveRecipe,
    start: Start,
    spark_config: SparkConfig,
    progress: Progress,
    embedded: Callable[[str], Teacher],
) -> Prepared:
    """A run's batches, written now unless an earlier call has.

    One commit with all of them, and then a property that says so: killed between, the next call replaces them
    by the same.

    Args:
        lake: With pairs, and where the recipe asks for them with judgements and negatives.
        recipe: Of the run.
        start: Whose tokenizer makes the ids.
        spark_config: How Spark is run.
        progress: Told of it.
        embedded: Has a model, by its name in the recipe, embed the texts of the pairs: the guide, or the one
            that clusters are made by. Called if batches are to be written.

    Raises:
        TrainingError: A source has too few pairs.
        CatalogError: A table that the recipe needs is not there.
    """
    tokenizer = start.tokenizer
    fingerprint = data_fingerprint(recipe, tokenizer.fingerprint)
    if known := recorded(lake, recipe.name, fingerprint):
        return known
    lake.create(BATCHES)
    guide = embedded(recipe.objective.guide.model) if recipe.objective.guide else None
    clusters = embedded(recipe.clusters.model) if recipe.clusters else None
    # Named before anything is read: what changes meanwhile gives another name, and not other rows by this.
    data = data_name(lake, recipe.name, fingerprint, _MADE_FROM, (guide, clusters))
    with progress.step("preparing batches", None, "pairs"), spark_session(lake, spark_config) as spark:
        pairs = chosen_pairs(spark, lake, recipe)
        if guide:
            pairs = known_to(spark, lake, guide, pairs)
        if clusters:
            pairs = clustered(spark, lake, clusters, pairs, recipe)
        units = {row["unit"]: row["count"] for row in pairs.groupBy("unit").count().collect()}
        order = batch_order(recipe, units)
        for source, count in order.skipped.items():
            progress.say(f"source '{source}' is skipped: its {count:,} pairs are fewer than a batch")
        prepared = Prepared(data, len(order.steps), order.batch, order.shards)
        placed = placed_pairs(spark, pairs, units, order, recipe)
        if recipe.negatives:
            placed = with_negatives(spark, lake, placed, order, recipe)
        if guide:
            placed = with_guide(spark, lake, guide, placed)
        rows = placed.mapInArrow(_rows_maker(start, recipe, prepared, order), _BATCH_DDL)
        while not replaced(spark, lake, data, rows):
            pass  # another run has written its batches meanwhile
    record(lake, recipe.name, fingerprint, prepared)
    return prepared


def chosen_pairs(spark: SparkSession, lake: Lake, recipe: ContrastiveRecipe) -> DataFrame:
    """The pairs that the recipe's sources have: pair_id, source, unit, query, document and their hashes."""
    lake.table(PAIRS.name)
    names = [source.name for source in recipe.sources]
    pairs = spark.table(lake.spark_identifier(PAIRS.name)).where("outcome = 'kept'")
    pairs = pairs.where(F.col("source").isin(names))
    if recipe.filtered:
        kept = answers(spark, lake, JUDGEMENTS.name, recipe).where("kept").select("pair_id")
        pairs = pairs.join(kept, "pair_id")
    return pairs.select(
        "pair_id", "source", F.col("source").alias("unit"), "query", "document", "query_hash", "document_hash"
    )


def placed_pairs(
    spark: SparkSession, pairs: DataFrame, units: dict[str, int], order: Order, recipe: ContrastiveRecipe
) -> DataFrame:
    """The pairs with `epoch`, `step`, `slot` and `number`, their place in the unit's epoch.

    Those that no batch has room for are left out.
    """
    epochs = F.explode(F.sequence(F.lit(0), F.lit(recipe.epochs - 1))).alias("epoch")
    drawn = pairs.select("*", epochs).withColumn(
        "draw", F.pmod(F.xxhash64(F.lit(recipe.seed), "epoch", "pair_id"), F.lit(_SPAN))
    )
    # A row's number within its unit, without a task that sorts all of the unit: by buckets of the draw.
    buckets = [max(1, count // _BUCKET_ROWS) for count in units.values()]
    of_unit = spark.createDataFrame(pa.table({"unit": list(units), "buckets": buckets}))
    drawn = drawn.join(F.broadcast(of_unit), "unit").withColumn(
        "bucket", (F.col("draw") * F.col("buckets") / _SPAN).cast("int")
    )
    keys = ("unit", "epoch", "bucket")
    sizes = drawn.groupBy(*keys).count()
    before = Window.partitionBy("unit", "epoch").orderBy("bucket").rowsBetween(Window.unboundedPreceding, -1)
    offsets = sizes.select(*keys, F.coalesce(F.sum("count").over(before), F.lit(0)).alias("offset"))
    within = F.row_number().over(Window.partitionBy(*keys).orderBy("draw", "pair_id"))
    numbered = drawn.withColumn("within", within - 1).join(F.broadcast(offsets), list(keys))
    numbered = numbered.withColumn("number", F.col("within") + F.col("offset"))
    steps = spark.createDataFrame(
        pa.table(
            {
                "epoch": pa.array([epoch for epoch, _, _ in order.steps], pa.int32()),
                "unit": [unit for _, unit, _ in order.steps],
                "batch": pa.array([number for _, _, number in order.steps], pa.int64()),
                "step": pa.array(list(order.steps.values()), pa.int32()),
            }
        )
    )
    numbered = numbered.withColumns(
        {
            "batch": F.floor(F.col("number") / order.batch),
            "slot": F.pmod(F.col("number"), F.lit(order.batch)).cast("int"),
        }
    )
    return numbered.join(F.broadcast(steps), ["epoch", "unit", "batch"]).drop(
        "draw", "buckets", "bucket", "within", "offset", "batch"
    )


def _rows_maker(
    start: Start, recipe: ContrastiveRecipe, prepared: Prepared, order: Order
) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    """A function over batches of placed pairs that yields rows of the table `batches`."""
    prefixes = {source.name: (source.query_prefix, source.document_prefix) for source in recipe.sources}

    def make(batches: Batches) -> Iterator[pa.RecordBatch]:
        tokenizer = start.tokenizer
        for batch in batches:
            guided = "guide" in batch.schema.names
            # Vectors go by whole columns: as Python's numbers they would be most of the work.
            rows = (batch.drop_columns(["guide"]) if guided else batch).to_pylist()
            made = [_row(row, tokenizer, prefixes[row["source"]], recipe.max_tokens) for row in rows]
            ids = Ragged.of([own for own, _, _ in made])
            lengths = Ragged.of([own for _, own, _ in made])
            hashes = Ragged.of([own for _, _, own in made])
            steps = np.array([row["step"] for row in rows], dtype=np.int32)
            slots = np.array([row["slot"] for row in rows], dtype=np.int32)
            columns = {
                "data": pa.array([prepared.data] * len(rows)),
                "segment": pa.array(steps // np.int32(order.segment)),
                "shard": pa.array((slots.astype(np.int64) * order.shards // order.batch).astype(np.int32)),
                "step": pa.array(steps),
                "slot": pa.array(slots),
                "unit": pa.array([row["unit"] for row in rows]),
                "input_ids": _lists(ids, pa.int32()),
                "lengths": _lists(lengths, pa.int32()),
                "hashes": _lists(hashes, pa.int64()),
                "guide": batch.column("guide") if guided else pa.nulls(len(rows), pa.list_(pa.float32())),
            }
            yield pa.RecordBatch.from_pydict(columns)

    return make


def _row(
    row: dict[str, Any], tokenizer: Tokenizer, prefixes: tuple[str, str], max_tokens: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Ids of a pair's texts one after the other, their lengths and hashes: query, document, negatives."""
    others = row.get("negatives") or []
    documents = [row["document"], *(other["document"] for other in others)]
    texts = tokenizer.model_inputs([row["query"]], prefixes[0], max_tokens)
    texts += tokenizer.model_inputs(documents, prefixes[1], max_tokens)
    hashes = [row["query_hash"], row["document_hash"], *(other["document_hash"] for other in others)]
    return (
        np.concatenate(texts),
        np.array([len(text) for text in texts], dtype=np.int32),
        np.array([int(each[:CODE_DIGITS], 16) for each in hashes], dtype=np.int64),
    )


def _lists(rows: Ragged, kind: pa.DataType) -> pa.Array:
    return pa.ListArray.from_arrays(
        pa.array(rows.offsets_M.astype(np.int32)), pa.array(rows.values_T).cast(kind)
    )


def replaced(spark: SparkSession, lake: Lake, data: str, rows: DataFrame) -> bool:
    """Makes the rows those of `data` in the table; False where the table was changed meanwhile."""
    published = False
    with branch(spark, lake, BATCHES.name, uuid4().hex[:12]) as writing:
        # A recipe's name has no quotes.
        spark.sql(f"DELETE FROM {writing.identifier} WHERE data = '{data}'")  # noqa: S608
        rows.sortWithinPartitions("segment", "shard", "step", "slot").writeTo(writing.identifier).append()
        published = writing.publish()
    return published  # noqa: RET504 - behind another commit the block ends before, without an error
