"""The curate run: read → compare with the ledger → judge → write the ledger → let the other tables follow."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import reduce
from time import monotonic
from typing import Any
from uuid import uuid4

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate import ledger
from pipelines.curate.config import CurateConfig
from pipelines.curate.follow import Follower
from pipelines.curate.inputs import Input, list_inputs, read_inputs
from pipelines.curate.judge import DOCUMENT, Corpus, judge
from pipelines.curate.learn import Learner
from pipelines.curate.near import NearJudge
from pipelines.curate.removals import NOTHING_REMOVED, Removals, deleted_ids
from pipelines.curate.report import NO_CHANGE, Counts, CurateReport, counts_of
from pipelines.curate.settings import bind_settings, check_line_settings
from pipelines.curate.spark_ops import chunker
from pipelines.curate.spark_sql import DUPLICATE, KEPT, among, cut, is_accepted, not_among, place_of
from pipelines.curate.tasks import task_progress
from pipelines.curate.versions import Versions, absent_documents, gone_documents, resolve
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ConfigError, InputError
from pipelines.lake import Lake
from pipelines.lake.branch import branch
from pipelines.lake.config import SparkConfig
from pipelines.lake.spark import spark_session
from pipelines.progress import Progress


def curate(
    lake: Lake,
    inputs: Sequence[str],
    model: ModelConf,
    config: CurateConfig,
    spark_config: SparkConfig,
    progress: Progress,
    removals: Removals = NOTHING_REMOVED,
    only: frozenset[str] | None = None,
) -> CurateReport:
    """Brings the documents of `inputs` into the lake: duplicates, rejects and chunks.

    What the lake knows already is left as it is: run twice, the second run writes nothing. A document whose
    text, source or metadata changed replaces the old one. Killed anywhere and run again, the tables are as
    if it had not been killed.

    Args:
        lake: Its tables are created where absent.
        inputs: Folders, files or `s3://` URIs, or Iceberg tables as `iceberg:namespace.table`.
        model: Whose tokenizer cuts the chunks, and whose limit they keep.
        config: Settings of the stage.
        spark_config: How Spark is run.
        progress: Is told each step.
        removals: What is to go.
        only: URIs of the files to read of the inputs; None reads all.

    Raises:
        InputError: A path is missing, empty or unreadable, or lacks the columns.
        ModelError: The lake's chunks were made by another tokenizer.
        ConfigError: A chunk cannot be longer than the model takes; or the lake was made with other settings.
    """
    started = monotonic()
    if not inputs and (removals.full or not removals.deletes):
        raise InputError("there is nothing to curate", "Name a folder, a file, a table, or --deletes FILE")
    tokenizer = Tokenizer.load(model)
    check_limits(model, config, tokenizer.overhead(model.prefixes["document"]))
    listed = list_inputs(inputs, config, lake, removals.allow_empty, only)
    deletes = deleted_ids(removals.deletes, config, lake)
    lake.ensure_tables()
    lake.bind_tokenizer(tokenizer.fingerprint)
    bind_settings(lake, config)
    if config.boilerplate is not None:
        check_line_settings(lake, config.boilerplate)
    with ExitStack() as stack:
        with progress.step("starting Spark", None, "seconds"):
            spark = stack.enter_context(spark_session(lake, spark_config))
        run = Run(spark, lake, model, config, progress, uuid4().hex[:12])
        run.follow("finishing an earlier run: ")
        given, counts = run.enter(listed, deletes, removals)
        chunks = run.follow()
        counted = {name: value for name, value in asdict(counts).items() if name != "only_adds"}
        return CurateReport(
            run_id=run.run_id,
            given=given,
            new=counts.new,
            chunks=chunks,
            left_out={one.location: one.left_out for one in listed if one.left_out},
            seconds=monotonic() - started,
            **counted,
        )


@dataclass
class Run:
    """One run on an open session."""

    spark: SparkSession
    lake: Lake
    model: ModelConf
    config: CurateConfig
    progress: Progress
    run_id: str

    def __post_init__(self) -> None:
        self.spark.conf.set("spark.sql.iceberg.snapshot-property.embedlake.run-id", self.run_id)
        self.spark.conf.set("spark.sql.iceberg.snapshot-property.embedlake.stage", "curate")

    def enter(
        self, listed: Sequence[Input], deletes: Sequence[str], removals: Removals
    ) -> tuple[int, Counts]:
        """Brings the inputs into the ledger; how many records they held, and what became of them."""
        arrival = datetime.now(UTC)
        size = sum(file.size for one in listed for file in one.files) or None
        learner = Learner(self.spark, self.lake, self.config, self.run_id)
        lines = learner.learn(listed, arrival, lambda label, step: self.told(label, size, "bytes", step))
        records = read_inputs(self.spark, listed, self.config, self.lake, arrival, lines)
        records = records.persist(StorageLevel.DISK_ONLY)
        given = self.told("reading and normalising", size, "bytes", records.count)
        scope = self._scope(records, listed, removals)
        task = _Task(self, records, listed, deletes, scope, max(given, len(deletes)))
        while (counts := task.attempt()) is None:
            pass  # another run has changed the ledger meanwhile: judge again by what it is now
        records.unpersist()
        return given, counts

    def follow(self, prefix: str = "") -> int:
        """Lets the other tables follow the ledger; how many chunks were written."""
        before = self.lake.table("chunks").current_snapshot()
        follower = Follower(self.spark, self.lake, chunker(self.model, self.config.chunk), self.run_id)
        follower.follow(lambda label, step: self.told(prefix + label, None, "documents", step))
        now = self.lake.table("chunks").current_snapshot()
        if now is None or now == before or now.summary is None:
            return 0
        return int(now.summary.additional_properties.get("added-records", 0))

    def told(self, label: str, total: int | None, unit: str, action: Callable[[], Any]) -> Any:
        """Does something, and tells of it."""
        with self.progress.step(label, total, unit) as step, task_progress(self.spark, step, total):
            return action()

    def _scope(self, records: DataFrame, listed: Sequence[Input], removals: Removals) -> list[str] | None:
        """The sources of which the inputs are all there is; None where they are not."""
        if not removals.full:
            return None
        faults = [row["file"] for row in records.where("stage = 'read'").select("file").take(3)]
        if faults:
            raise InputError(
                f"--full declares the input complete, but {faults[0]} could not be read",
                "Mend or remove the file: what it holds would be deleted as absent",
            )
        good = records.where("reason is null")
        sources = [row["source"] for row in good.select("source").distinct().collect()]
        if not sources and not removals.allow_empty:
            raise InputError(
                "--full declares the input complete, but it holds no document",
                "Give --allow-empty if all documents of its source are to be deleted",
            )
        return sources or [one.source for one in listed]


@dataclass(frozen=True)
class _Task:
    """What a run has to enter into the ledger.

    Attributes:
        run: The run.
        records: What it has read.
        listed: The inputs.
        deletes: Ids of documents to delete.
        scope: The sources of which the inputs are all there is, where they are.
        total: For the progress.
    """

    run: Run
    records: DataFrame
    listed: Sequence[Input]
    deletes: Sequence[str]
    scope: list[str] | None
    total: int

    def attempt(self) -> Counts | None:
        """Changes the ledger and counts the changes; None where another run has changed it first."""
        run = self.run
        with branch(run.spark, run.lake, "documents", run.run_id) as made:
            table = run.spark.table(made.identifier)
            changes = run.told("finding duplicates", self.total, "documents", lambda: self._changes(table))
            if changes is None:
                return NO_CHANGE
            counts = counts_of(changes, table)

            def write() -> None:
                ledger.write(changes, made.identifier, counts.only_adds)

            run.told("writing the ledger", self.total, "documents", write)
            return counts if made.publish() else None

    def _changes(self, table: DataFrame) -> ledger.Changes | None:
        """What the ledger is to become, judged; None where it is so already."""
        spark, records = self.run.spark, self.records
        is_first = table.isEmpty()
        if self.deletes:
            records = not_among(records, ids_frame(spark, self.deletes), "doc_id")
        versions = resolve(records, table, is_first)
        gone = ids_frame(spark, ()) if is_first else self._gone(table, versions)
        if versions.changes.isEmpty() and versions.rejects.isEmpty() and gone.isEmpty():
            return None
        corpus = self._corpus(table, versions.changes, gone, is_first)
        columns = ("text_hash", "n_chars", "text")
        entered = among(records.where("reason is null"), versions.changes, "text_hash")
        texts = table.where(is_accepted()).select(*columns).unionByName(entered.select(*columns))
        near = NearJudge(spark, self.run.config.near, texts)
        return ledger.Changes(records, versions, cut(judge(corpus, near)), gone)

    def _gone(self, table: DataFrame, versions: Versions) -> DataFrame:
        """doc_id of the ledger's rows that the run removes."""
        spark = self.run.spark
        parts = [] if versions.superseded is None else [versions.superseded]
        if self.deletes:
            parts.append(gone_documents(table, ids_frame(spark, self.deletes)))
        faults = table.where("stage = 'read'")
        if not faults.isEmpty():
            # Files that could not be read before, and now were.
            here = among(
                faults, ids_frame(spark, [file.uri for one in self.listed for file in one.files]), "doc_id"
            )
            still = self.records.where("stage = 'read'")
            parts.append(not_among(here, still, "doc_id").select("doc_id"))
        if self.scope is not None:
            parts.append(absent_documents(table, self.records.select("doc_id"), self.scope))
        return cut(reduce(DataFrame.unionByName, parts).distinct()) if parts else ids_frame(spark, ())

    def _corpus(self, table: DataFrame, entered: DataFrame, gone: DataFrame, is_first: bool) -> Corpus:
        place = place_of(self.run.config.source_priority)
        before = table.where(is_accepted()).withColumn("place", place).select(*DOCUMENT)
        nothing = {name: F.lit(None).cast("string") for name in ("outcome", "kept_doc_id", "kind")}
        new = entered.withColumn("place", place).withColumns(nothing)
        new = new.withColumn("similarity", F.lit(None).cast("double")).select(*DOCUMENT)
        replaced = entered.where(F.col("known_outcome").isin(KEPT, DUPLICATE)).select("doc_id")
        leaving = cut(replaced.unionByName(gone.select("doc_id")))
        return Corpus(before, new, None if leaving.isEmpty() else leaving, is_first)


def ids_frame(spark: SparkSession, ids: Sequence[str]) -> DataFrame:
    """The ids as a column `doc_id`."""
    return spark.createDataFrame([(one,) for one in ids], "doc_id string")


def check_limits(model: ModelConf, config: CurateConfig, overhead: int) -> None:
    """Refuses chunks that the model cannot take.

    Raises:
        ConfigError: A chunk is to be longer than the model takes, or leaves no room for text.
    """
    limit = config.chunk.max_tokens
    if limit > model.max_tokens:
        raise ConfigError(
            f"curate.chunk.max_tokens is {limit}, but model {model.name} takes {model.max_tokens} tokens",
            f"Set curate.chunk.max_tokens to {model.max_tokens} or less",
        )
    if limit - overhead < 4:
        raise ConfigError(
            f"curate.chunk.max_tokens is {limit}, of which prefix and special tokens take {overhead}",
            f"Set curate.chunk.max_tokens to {overhead + 4} or more",
        )
