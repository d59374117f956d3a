"""Enters what a run has read into the ledger: compared with what is there, judged, written, published."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate.context import RunContext
from pipelines.curate.ledger.changes import Changes, write_changes
from pipelines.curate.ledger.judge import DOCUMENT, Corpus, judge
from pipelines.curate.ledger.nearby import nearby_rows
from pipelines.curate.ledger.settings import check_settings
from pipelines.curate.ledger.versions import Versions, absent_documents, gone_documents, resolve
from pipelines.curate.read.inputs import Input
from pipelines.curate.report import NO_CHANGE, Counts, counts_of
from pipelines.dedup.near import NearJudge
from pipelines.dedup.spark_sql import (
    DUPLICATE,
    KEPT,
    REJECTED,
    among,
    at_most,
    cut,
    empty_frame,
    is_accepted,
    not_among,
    place_of,
)
from pipelines.lake import Lake
from pipelines.lake.added import RemoteTable
from pipelines.lake.branch import Branch, branch
from pipelines.lake.filters import equals
from pipelines.lake.scan import ScanFile, scan_files


@dataclass(frozen=True)
class Entry:
    """What a run has to enter into the ledger.

    Attributes:
        run: The run's.
        records: What it has read.
        listed: The inputs.
        deletes: Ids of documents to delete.
        scope: The sources of which the inputs are all there is, where they are.
        total: For the progress.
    """

    run: RunContext
    records: DataFrame
    listed: Sequence[Input]
    deletes: Sequence[str]
    scope: list[str] | None
    total: int

    def attempt(self) -> Counts | None:
        """Changes the ledger and counts the changes; None where another run has changed it first.

        Raises:
            ConfigError: The lake has other settings now than those that the records were signed with.
        """
        run = self.run
        with branch(run.spark, run.lake, "documents", run.run_id) as made:
            # Only now: a rebuild that comes later will have this branch refused.
            check_settings(run.lake, run.config)
            table = run.spark.table(made.identifier)
            base = _Base.of(run.lake, made, table)
            changes = run.told("finding duplicates", self.total, "documents", lambda: self._changes(base))
            if changes is None:
                return NO_CHANGE
            counts = counts_of(changes, table)

            def write() -> None:
                write_changes(changes, made.identifier, counts.only_adds)

            run.told("writing the ledger", self.total, "documents", write)
            return counts if made.publish() else None

    def _changes(self, base: "_Base") -> Changes | None:
        """What the ledger is to become, judged; None where it is so already."""
        spark, records, table = self.run.spark, self.records, base.table
        if self.deletes:
            records = not_among(records, _ids_frame(spark, self.deletes), "doc_id")
        nearby = self._nearby(records, base)
        known = None if base.is_empty else table if nearby is None else nearby
        versions = resolve(records, table, known, base.has_rejects)
        gone = _ids_frame(spark, ()) if base.is_empty else self._gone(base, versions)
        if versions.changes.isEmpty() and versions.rejects.isEmpty() and gone.isEmpty():
            return None
        near = NearJudge(spark, self.run.config.near, self._texts(table, versions))
        outcomes = judge(self._corpus(base, versions.changes, gone, nearby), near)
        return Changes(records, versions, cut(outcomes), gone)

    def _nearby(self, records: DataFrame, base: "_Base") -> DataFrame | None:
        """The ledger's rows with an id, a text or a MinHash band of the records; None: these are many."""
        run = self.run
        most = run.config.near.driver_nodes
        if base.is_empty or self.total > most:
            return None
        few = at_most(records.where("reason is null").select("doc_id", "text_hash", "bands"), most)
        if few is None:
            return None
        return nearby_rows(run.spark, base.remote, base.files if few.num_rows else [], few)

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
            parts.append(gone_documents(table, _ids_frame(spark, self.deletes)))
        if base.has_rejects:
            # Files that could not be read before, and now were.
            files = _ids_frame(spark, [file.uri for one in self.listed for file in one.files])
            here = among(table.where("stage = 'read'"), files, "doc_id")
            still = self.records.where("stage = 'read'")
            parts.append(not_among(here, still, "doc_id").select("doc_id"))
        if self.scope is not None:
            parts.append(absent_documents(table, self.records.select("doc_id"), self.scope))
        return cut(reduce(DataFrame.unionByName, parts).distinct()) if parts else _ids_frame(spark, ())

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


def _ids_frame(spark: SparkSession, ids: Sequence[str]) -> DataFrame:
    """The ids as a column `doc_id`."""
    if not ids:
        return empty_frame(spark, "doc_id string")
    return spark.createDataFrame(pa.table({"doc_id": pa.array(ids, pa.string())}))
