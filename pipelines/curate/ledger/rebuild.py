"""Judges and cuts all documents of the lake anew, from the ledger alone, after settings changed."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from time import monotonic
from uuid import uuid4

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate.config import CurateConfig
from pipelines.curate.ledger.judge import DOCUMENT, Corpus, judge
from pipelines.curate.ledger.settings import REBUILDING, record_settings
from pipelines.curate.report import NO_CHANGE, CurateReport
from pipelines.curate.run import Run, check_limits
from pipelines.dedup.near import NearJudge
from pipelines.dedup.signing import Signer, signer
from pipelines.dedup.spark_sql import DUPLICATE, KEPT, NEAR, cut, is_accepted, place_of
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake
from pipelines.lake.branch import branch
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session
from pipelines.lake.tables import CURATION_PROPERTY
from pipelines.progress import Progress

_OUTCOME = ("outcome", "kept_doc_id", "kind", "similarity")


def rebuild(
    lake: Lake, model: ModelConf, config: CurateConfig, spark_config: SparkConfig, progress: Progress
) -> CurateReport:
    """Makes signatures, duplicates and chunks with the present settings, which are then the lake's.

    While it runs, and where it was killed until it has been run again, the lake takes no other curate run.

    Raises:
        ModelError: The lake's chunks were made by another tokenizer.
        ConfigError: A chunk cannot be longer than the model takes.
    """
    started = monotonic()
    tokenizer = Tokenizer.load(model)
    check_limits(model, config, tokenizer.overhead(model.prefixes["document"]))
    lake.ensure_tables()
    lake.bind_tokenizer(tokenizer.fingerprint)
    lake.set_property("documents", CURATION_PROPERTY, REBUILDING)
    with ExitStack() as stack:
        with progress.step("starting Spark", None, "seconds"):
            spark = stack.enter_context(spark_session(lake, spark_config))
        run = Run(spark, lake, model, config, progress, uuid4().hex[:12])
        run.follow("finishing an earlier run: ")
        outcomes = run.told("judging all documents anew", None, "documents", lambda: _judged(run))
        chunks = run.follow()
        record_settings(lake, config)
    rows = {(row["outcome"], row["kind"]): row["count"] for row in outcomes}
    duplicates = sum(count for (outcome, _), count in rows.items() if outcome == DUPLICATE)
    kept = rows.get((KEPT, None), 0)
    return CurateReport(
        run_id=run.run_id, given=0, new=0, kept=kept, duplicates=duplicates,
        near=rows.get((DUPLICATE, NEAR), 0), rejects=NO_CHANGE.rejects, changed=0, deleted=0,
        rejudged=kept + duplicates, chunks=chunks, left_out={}, seconds=monotonic() - started,
    )  # fmt: skip


def _judged(run: Run) -> list[dict[str, object]]:
    """Judges all documents in the ledger; how many there are of each outcome."""
    while True:
        with branch(run.spark, run.lake, "documents", run.run_id) as made:
            documents = run.spark.table(made.identifier).where(is_accepted())
            place = place_of(run.config.source_priority)
            bands = cut(_signed(documents, signer(run.config.near)))
            nothing = {name: F.lit(None).cast("string") for name in ("outcome", "kept_doc_id", "kind")}
            nothing["similarity"] = F.lit(None).cast("double")
            after = documents.withColumn("place", place).drop("bands").withColumns(nothing)
            after = cut(after.join(bands, "doc_id").select(*DOCUMENT))
            texts = documents.select("text_hash", "n_chars", "text")
            corpus = Corpus(after.where("false"), after, None, None, is_first=True)
            outcomes = cut(judge(corpus, NearJudge(run.spark, run.config.near, texts)))
            _update(outcomes.join(bands, "doc_id"), made.identifier)
            if made.publish():
                return [row.asDict() for row in outcomes.groupBy("outcome", "kind").count().collect()]


def _update(rows: DataFrame, ledger: str) -> None:
    values = {name: F.col(f"rows.{name}") for name in (*_OUTCOME, "bands")}
    same = F.col("rows.doc_id") == F.col(f"{ledger}.doc_id")
    rows.alias("rows").mergeInto(ledger, same).whenMatched().update(values).merge()


def _signed(documents: DataFrame, sign: Signer | None) -> DataFrame:
    if sign is None:
        return documents.select("doc_id", F.lit(None).cast("array<bigint>").alias("bands"))
    return documents.select("doc_id", "text").mapInArrow(_bands(sign), "doc_id string, bands array<bigint>")


def _bands(sign: Signer) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def bands(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            columns = [batch.column("doc_id"), sign(batch.column("text"))]
            yield pa.RecordBatch.from_arrays(columns, ["doc_id", "bands"])

    return bands
