"""The maintain run: a table's data files, deletes, manifests, branches, snapshots, orphans, in this order.

Before them, rows that nothing needs any more (`rotations.py`). It needs no state of its own, and may be
killed anywhere. What a death leaves behind, step by step:

- while files are written, before the commit: orphans. The table is as it was. They go when they are old.
- in a commit: Iceberg swaps one pointer. The table holds the same rows before and after, in other files. A
  large compaction is some such commits; what is done of it is done, the next run does the rest.
- between the commit of an expiry and the deletes of its files: files that no snapshot refers to: orphans.
- while orphans are deleted: some are gone, and the next run finds the others.

Other jobs at work meanwhile: Iceberg refuses a rewrite of files that others have rewritten, or deleted rows
of; the step is tried again on the table as it is then, and at last left to the next run. `curate` publishes a
branch of a table that nobody has changed, and judges again where a compaction came first. `embed` compares by
chunk_id what names and counts do not tell (ADR 0012). No file is deleted that a snapshot refers to, nor a
young one, nor a snapshot that was the table a while ago (`snapshots.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

from pyiceberg.exceptions import NoSuchNamespaceError
from pyspark.sql import SparkSession

from pipelines.errors import CatalogError
from pipelines.lake import Lake
from pipelines.lake.config import SparkConfig
from pipelines.lake.faults import explained
from pipelines.lake.spark import spark_session
from pipelines.lake.tables import ROTATIONS
from pipelines.maintain import rotations
from pipelines.maintain.config import MaintainConfig
from pipelines.maintain.files import TableFiles, Thresholds, files_of
from pipelines.maintain.orphans import remove, total_size
from pipelines.maintain.procedures import Procedures, is_lost_race, reason_of
from pipelines.maintain.report import MaintainReport, TableReport
from pipelines.maintain.snapshots import expirable, stale_branches
from pipelines.progress import Progress


def maintain(
    lake: Lake,
    config: MaintainConfig,
    spark_config: SparkConfig,
    progress: Progress,
    tables: Sequence[str] = (),
    dry_run: bool = False,
) -> MaintainReport:
    """Maintains tables of the lake. Run twice, the second run changes nothing.

    A step that keeps losing its race against other jobs is left out, and told in the report.

    Args:
        lake: The lake.
        config: Settings of the stage.
        spark_config: How Spark is run.
        progress: Is told each table.
        tables: Names; all that the lake's namespace has where empty, whichever stage made them.
        dry_run: Change nothing; the report says what would be done.

    Raises:
        CatalogError: There is no such table, or the catalogue does not answer.
        StorageError: The object store or disk does not.
        EnvironmentFault: Spark does not start.
    """
    started = monotonic()
    there = tables_of(lake)
    for name in tables:
        lake.table(name)  # a wrong name is told before Spark starts
    with spark_session(lake, spark_config) as spark:
        reports = []
        for name in [one for one in there if one in tables] if tables else there:
            with progress.step(f"looking at {name}" if dry_run else f"maintaining {name}", None, "seconds"):
                reports.append(_Maintenance(spark, lake, config, name, dry_run).run())
    return MaintainReport(dry_run, tuple(reports), monotonic() - started)


def tables_of(lake: Lake) -> list[str]:
    """The names of all tables in the lake's namespace, sorted.

    Raises:
        CatalogError: There is no such namespace, or the catalogue does not answer.
    """
    with explained(lake.config):
        try:
            return sorted(identifier[-1] for identifier in lake.catalog.list_tables(lake.config.namespace))
        except NoSuchNamespaceError as error:
            raise CatalogError(
                f"the lake has no namespace '{lake.config.namespace}'", "Run 'embedlake curate' first"
            ) from error


@dataclass
class _Maintenance:
    """Of one table."""

    spark: SparkSession
    lake: Lake
    config: MaintainConfig
    name: str
    dry_run: bool

    def run(self) -> TableReport:
        started = monotonic()
        self._procedures = Procedures(self.spark, self.lake)
        files = self._files()
        self._report = TableReport(self.name, files, files)
        for label, step in (
            ("rows", self._rows),
            ("data files", self._data_files),
            ("delete files", self._delete_files),
            ("manifests", self._manifests),
            ("branches", self._branches),
            ("snapshots", self._snapshots),
            ("orphan files", self._orphans),
        ):
            self._tried(label, step)
        self._report.after = files if self.dry_run else self._files()
        self._report.seconds = monotonic() - started
        return self._report

    def _tried(self, label: str, step: Callable[[], None]) -> None:
        for left in reversed(range(self.config.attempts)):
            try:
                step()
            except Exception as error:
                if not is_lost_race(error):
                    raise
                if not left:
                    self._report.skipped[label] = reason_of(error)
            else:
                return

    def _files(self) -> TableFiles:
        table = self.lake.table(self.name)
        with explained(self.lake.config):
            return files_of(table, Thresholds.of(table, self.config))

    def _rows(self) -> None:
        if self.name != ROTATIONS.name:
            return
        with explained(self.lake.config):
            runs = rotations.unneeded(self.lake, _ago(self.config.expire_days))
            if runs and not self.dry_run:
                rotations.remove(self.lake, runs)
        self._report.rows = len(runs)

    def _data_files(self) -> None:
        found = self._files()
        if self.dry_run:
            self._report.rewritten = found.to_rewrite
        elif found.to_rewrite:
            table = self.lake.table(self.name)
            limits, has_order = Thresholds.of(table, self.config), bool(table.sort_order().fields)
            self._report.rewritten += self._procedures.rewrite_data_files(self.name, limits, has_order)

    def _delete_files(self) -> None:
        if not self.dry_run and self._files().dangling:
            self._procedures.rewrite_position_deletes(self.name)

    def _manifests(self) -> None:
        if not self.dry_run and self._files().small_manifests >= self.config.min_manifests:
            self._procedures.rewrite_manifests(self.name)

    def _branches(self) -> None:
        metadata = self.lake.table(self.name).metadata
        for branch in stale_branches(metadata, _ago(self.config.branch_days)):
            if not self.dry_run:
                self._procedures.drop_branch(self.name, branch)
            self._report.branches += 1

    def _snapshots(self) -> None:
        metadata = self.lake.table(self.name).metadata
        ids = expirable(metadata, _ago(self.config.expire_days), self.config.retain_last)
        if ids and not self.dry_run:
            self._procedures.expire(self.name, ids)
        self._report.snapshots = len(ids)

    def _orphans(self) -> None:
        paths = self._procedures.orphans(self.name, _ago(self.config.orphan_days))
        table = self.lake.table(self.name)
        with explained(self.lake.config):
            self._report.orphans, self._report.orphan_bytes = len(paths), total_size(table, paths)
            if not self.dry_run:
                remove(table, paths)


def _ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)
