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
from pipelines.curate.nearby import nearby_rows
from pipelines.curate.removals import NOTHING_REMOVED, Removals, deleted_ids
from pipelines.curate.report import NO_CHANGE, Counts, CurateReport, counts_of
from pipelines.curate.settings import bind_settings, check_line_settings
from pipelines.curate.spark_ops import chunker
from pipelines.curate.spark_sql import (
    DUPLICATE,
    KEPT,
    REJECTED,
    among,
    at_most,
    cut,
    is_accepted,
    not_among,
    place_of,
)
from pipelines.curate.tasks import task_progress
from pipelines.curate.versions import Versions, absent_documents, gone_documents, resolve
from pipelines.encoder.conf import ModelConf
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import ConfigError, InputError
from pipelines.lake import Lake
from pipelines.lake.added import RemoteTable
from pipelines.lake.branch import Branch, branch
from pipelines.lake.config import SparkConfig
from pipelines.lake.filters import equals
from pipelines.lake.scan import ScanFile, scan_files
from pipelines.lake.spark import spark_session, start_workers
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
            start_workers(spark)
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
            base = _Base.of(run.lake, made, table)
            changes = run.told("finding duplicates", self.total, "documents", lambda: self._changes(base))
            if changes is None:
                return NO_CHANGE
            counts = counts_of(changes, table)

            def write() -> None:
                ledger.write(changes, made.identifier, counts.only_adds)

            run.told("writing the ledger", self.total, "documents", write)
            return counts if made.publish() else None

    def _changes(self, base: "_Base") -> ledger.Changes | None:
        """What the ledger is to become, judged; None where it is so already."""
        spark, records, table = self.run.spark, self.records, base.table
        if self.deletes:
            records = not_among(records, ids_frame(spark, self.deletes), "doc_id")
        nearby = self._nearby(records, base)
        known = None if base.is_empty else table if nearby is None else nearby
        versions = resolve(records, table, known, base.has_rejects)
        gone = ids_frame(spark, ()) if base.is_empty else self._gone(base, versions)
        if versions.changes.isEmpty() and versions.rejects.isEmpty() and gone.isEmpty():
            return None
        near = NearJudge(spark, self.run.config.near, self._texts(table, versions))
        outcomes = judge(self._corpus(base, versions.changes, gone, nearby), near)
        return ledger.Changes(records, versions, cut(outcomes), gone)

    def _nearby(self, records: DataFrame, base: "_Base") -> DataFrame | None:
        """The ledger's rows with an id, a text or a MinHash band of the records; None: these are many."""
        run = self.run
        most = run.config.near.driver_nodes
        if base.is_empty or self.total > most:
            return None
        few = at_most(records.where("reason is null").select("doc_id", "text_hash", "bands"), most)
        return None if few is None else nearby_rows(run.spark, base.remote, base.files, few)

    def _texts(self, table: DataFrame, versions: Versions) -> DataFrame:
        """text_hash, n_chars and text of all documents, old and new."""
        columns = ("text_hash", "n_chars", "text")
        entered = among(self.records.where("reason is null"), versions.changes, "text_hash")
        return table.where(is_accepted()).select(*columns).unionByName(entered.select(*columns))

    def _gone(self, base: "_Base", versions: Versions) -> DataFrame:
        """doc_id of the ledger's rows that the run removes."""
        spark, table = self.run.spark, base.table
        parts = [] if versions.superseded is None else [versions.superseded]
        if self.deletes:
            parts.append(gone_documents(table, ids_frame(spark, self.deletes)))
        if base.has_rejects:
            # Files that could not be read before, and now were.
            files = ids_frame(spark, [file.uri for one in self.listed for file in one.files])
            here = among(table.where("stage = 'read'"), files, "doc_id")
            still = self.records.where("stage = 'read'")
            parts.append(not_among(here, still, "doc_id").select("doc_id"))
        if self.scope is not None:
            parts.append(absent_documents(table, self.records.select("doc_id"), self.scope))
        return cut(reduce(DataFrame.unionByName, parts).distinct()) if parts else ids_frame(spark, ())

    def _corpus(self, base: "_Base", entered: DataFrame, gone: DataFrame, nearby: DataFrame | None) -> Corpus:
        place = place_of(self.run.config.source_priority)

        def documents(rows: DataFrame) -> DataFrame:
            return rows.where(is_accepted()).withColumn("place", place).select(*DOCUMENT)

        nothing = {name: F.lit(None).cast("string") for name in ("outcome", "kept_doc_id", "kind")}
        new = entered.withColumn("place", place).withColumns(nothing)
        new = new.withColumn("similarity", F.lit(None).cast("double")).select(*DOCUMENT)
        replaced = entered.where(F.col("known_outcome").isin(KEPT, DUPLICATE)).select("doc_id")
        leaving = cut(replaced.unionByName(gone.select("doc_id")))
        return Corpus(
            before=documents(base.table),
            new=new,
            leaving=None if leaving.isEmpty() else leaving,
            nearby=None if nearby is None else documents(nearby),
            is_first=base.is_empty,
        )


@dataclass(frozen=True)
class _Base:
    """The ledger as a run found it.

    Attributes:
        table: For Spark.
        remote: For Spark's Python workers.
        files: Its live data files.
        has_rejects: Whether one of them may hold a reject.
    """

    table: DataFrame
    remote: RemoteTable
    files: list[ScanFile]
    has_rejects: bool

    @classmethod
    def of(cls, lake: Lake, made: Branch, table: DataFrame) -> "_Base":
        now = lake.table("documents")
        remote = RemoteTable(lake.config, now.metadata_location)
        with_rejects = scan_files(now, equals("outcome", REJECTED), made.base)
        return cls(table, remote, scan_files(now, snapshot_id=made.base), bool(with_rejects))

    @property
    def is_empty(self) -> bool:
        return not self.files


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
