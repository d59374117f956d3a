"""Makes chunks, duplicates, rejects and embeddings follow the ledger, each by one atomic change.

A table's snapshots carry the ledger's sequence number that they follow, so that what a killed run left
undone is seen and done by whichever run comes next, from the ledger alone: the texts are in it. Every step
gives the same again if it is done twice. Fault protocol:

- killed before a table is published: it is as before, and its number tells that it lags;
- killed between two tables: the first is done and says so, the next run does the second;
- killed before the ledger's own mark is set: the next run finds all tables done and sets it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyiceberg.table import Table
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its customary name

from pipelines.curate.ledger.file_rows import rows_of_files
from pipelines.curate.spark_ops import CHUNK_DDL, Batches
from pipelines.dedup.spark_sql import DELETED, DUPLICATE, REJECTED, cut
from pipelines.lake import Lake
from pipelines.lake.added import (
    RemoteTable,
    files_since,
    is_cut_short,
    last_property,
    only_added_since,
    sequence_number,
)
from pipelines.lake.branch import Branch, branch
from pipelines.lake.filters import equals
from pipelines.lake.scan import ScanFile
from pipelines.lake.tables import FOLLOWED_PROPERTY, STAGE_PROPERTY

_KEYS = ["doc_id", "source", "outcome", "kept_doc_id", "kind", "similarity", "stage", "reason", "detail"]
_KEYS += ["excerpt", "input", "file", "position"]
_KEY_DDL = (
    "doc_id string, source string, outcome string, kept_doc_id string, kind string, similarity double, "
    "stage string, reason string, detail string, excerpt string, input string, file string, position bigint"
)
_CHUNKED = ["doc_id", "source", "text", "metadata"]
_REJECT_STAGES = ("read", "curate")
_SNAPSHOT_PROPERTY = f"spark.sql.iceberg.snapshot-property.{FOLLOWED_PROPERTY}"
# How often a delete is tried whose files a compaction has replaced meanwhile.
_ATTEMPTS = 20
_REPLACED = "ValidationException"
_STAGE_PROPERTY = f"spark.sql.iceberg.snapshot-property.{STAGE_PROPERTY}"


@dataclass(frozen=True)
class _Lag:
    """What a table has not followed yet.

    Attributes:
        sequence: The ledger's number when the table will have followed.
        only_added: Whether the rows are of documents that were new to the ledger.
        files: The ledger's files with those rows.
        ledger: The ledger as it was then.
        forgotten: Whether the table may have followed further than it tells.
    """

    sequence: int
    only_added: bool
    files: list[ScanFile]
    ledger: RemoteTable
    forgotten: bool

    @property
    def is_new(self) -> bool:
        """Whether the rows are of documents that the table cannot know."""
        return self.only_added and not self.forgotten


@dataclass(frozen=True)
class Follower:
    """Makes the other tables follow the ledger.

    Attributes:
        spark: The session.
        lake: The lake.
        chunk: Makes chunks of batches of documents.
        run_id: Of the run, for its branches.
    """

    spark: SparkSession
    lake: Lake
    chunk: Callable[[Batches], Batches]
    run_id: str

    def follow(self, told: Callable[[str, Callable[[], None]], None]) -> None:
        """Brings all tables up to the ledger; nothing where they are.

        Args:
            told: Is given each step's name and the step, and does it.
        """
        while (sequence := sequence_number(ledger := self.lake.table("documents"))) > _marked(ledger):
            told("chunking and writing", lambda: self._until_published("chunks", self._chunks))
            told("writing duplicates", lambda: self._until_published("duplicates", self._duplicates))
            told("writing rejects", lambda: self._until_published("rejects", self._rejects))
            told("removing embeddings of gone chunks", self._embeddings)
            self._mark(sequence)

    def _until_published(self, table: str, write: Callable[[Branch, _Lag], None]) -> None:
        while True:
            with branch(self.spark, self.lake, table, self.run_id) as made:
                # The ledger is read after the branch was made: who publishes on it later has seen no less.
                lag = self._lag(table)
                if lag is None:
                    return
                self.spark.conf.set(_SNAPSHOT_PROPERTY, str(lag.sequence))
                try:
                    write(made, lag)
                finally:
                    self.spark.conf.unset(_SNAPSHOT_PROPERTY)
                if not made.is_changed() or made.publish():
                    return

    def _lag(self, table: str) -> _Lag | None:
        ledger, follower = self.lake.table("documents"), self.lake.table(table)
        own = last_property(follower, FOLLOWED_PROPERTY)
        # An expiry may have dropped the snapshot that told how far the table follows: then rows may be there.
        forgotten = own is None and is_cut_short(follower)
        since = max(int(own or 0), _marked(ledger))
        files = files_since(ledger, since)
        if not files:
            return None
        remote = RemoteTable(self.lake.config, ledger.metadata_location)
        only_added = only_added_since(ledger, since)
        return _Lag(sequence_number(ledger), only_added, files, remote, forgotten)

    def _chunks(self, made: Branch, lag: _Lag) -> None:
        fresh = self._read(lag, _CHUNKED, CHUNK_DDL, self.chunk, kept_only=True)
        if lag.is_new:
            fresh.writeTo(made.identifier).append()
            return
        fresh = fresh.persist(StorageLevel.DISK_ONLY)
        there = self.spark.table(made.identifier).select("chunk_id", "doc_id", "source")
        there = there.join(self._keys(lag).select("doc_id"), "doc_id", "left_semi")
        gone = there.join(fresh.select("chunk_id", "source"), ["chunk_id", "source"], "left_anti")
        rows = fresh.withColumn("is_gone", F.lit(False)).unionByName(
            gone.withColumn("is_gone", F.lit(True)), allowMissingColumns=True
        )
        old = F.col(made.identifier + ".metadata")
        is_other = ~F.to_json("rows.metadata").eqNullSafe(F.to_json(old))
        for name in ("char_start", "char_end"):
            is_other |= F.col(f"rows.{name}") != F.col(f"{made.identifier}.{name}")
        _merge(made, rows, ("chunk_id", "source", "doc_id"), fresh.columns, is_other)
        fresh.unpersist()

    def _duplicates(self, made: Branch, lag: _Lag) -> None:
        columns = ["doc_id", "source", "kept_doc_id", "kind", "similarity"]
        self._replace(made, lag, self._keys(lag).where(F.col("outcome") == DUPLICATE), columns, "doc_id")

    def _rejects(self, made: Branch, lag: _Lag) -> None:
        columns = ["key", "stage", "source", "reason", "detail", "excerpt", "payload"]
        payload = F.to_json(F.struct("input", "file", "position"))
        rows = self._keys(lag).where(F.col("outcome") == REJECTED)
        rows = rows.withColumns({"key": F.col("doc_id"), "payload": payload})
        self._replace(made, lag, rows, columns, "key")

    def _replace(self, made: Branch, lag: _Lag, rows: DataFrame, columns: list[str], key: str) -> None:
        """Makes the table's rows of the lag's documents the given ones."""
        rows = rows.select(*columns)
        if lag.is_new:
            rows = cut(rows)
            if not rows.isEmpty():
                rows.writeTo(made.identifier).append()
            return
        there = self.spark.table(made.identifier)
        if key == "key":
            there = there.where(F.col("stage").isin(*_REJECT_STAGES))
        keys = self._keys(lag).select(F.col("doc_id").alias(key))
        there = there.join(keys, key, "left_semi")
        # A document may have moved to another source: its row there goes, and one here comes.
        ids = [key, "source"]
        gone = there.join(rows.select(*ids), ids, "left_anti").select(*ids)
        marked = rows.withColumn("is_gone", F.lit(False)).unionByName(
            gone.withColumn("is_gone", F.lit(True)), allowMissingColumns=True
        )
        is_other = F.lit(False)
        for name in columns:
            is_other |= ~F.col(f"rows.{name}").eqNullSafe(F.col(f"{made.identifier}.{name}"))
        _merge(made, marked, tuple(ids), columns, is_other)

    def _embeddings(self) -> None:
        """Deletes the embeddings of chunks that are gone; anew where a compaction has moved them meanwhile.

        On the table itself: a branch of it would lose its race against every commit of `embed`.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                return self._delete_embeddings()
            except Exception as error:
                if not left or _REPLACED not in str(error):
                    raise
        return None

    def _delete_embeddings(self) -> None:
        lag = self._lag("embeddings")
        if lag is None or lag.only_added or self.lake.table("embeddings").current_snapshot() is None:
            return
        name = self.lake.spark_identifier("embeddings")
        keys = self._keys(lag).select("doc_id")
        rows = self.spark.table(name).select("chunk_id", "source", "doc_id").join(keys, "doc_id", "left_semi")
        chunks = self.spark.table(self.lake.spark_identifier("chunks"))
        gone = rows.join(chunks.select("chunk_id", "source"), ["chunk_id", "source"], "left_anti")
        gone = gone.distinct()
        if gone.isEmpty():
            return
        same = F.lit(True)
        for column in ("chunk_id", "source"):
            same &= F.col(f"rows.{column}") == F.col(f"{name}.{column}")
        # Marked, so that embed knows these deletes to be of gone chunks, whatever it counts.
        self.spark.conf.set(_STAGE_PROPERTY, "curate")
        try:
            gone.alias("rows").mergeInto(name, same).whenMatched().delete().merge()
        finally:
            self.spark.conf.unset(_STAGE_PROPERTY)

    def _mark(self, sequence: int) -> None:
        """Says in the ledger that all tables follow it up to `sequence`, and drops the rows that are gone."""
        is_done = False
        with branch(self.spark, self.lake, "documents", self.run_id) as made:
            ledger = self.lake.table("documents")
            if sequence_number(ledger) != sequence:
                return  # another run has changed it meanwhile
            if ledger.scan(row_filter=equals("outcome", DELETED), selected_fields=("doc_id",)).count():
                gone = F.col(f"{made.identifier}.outcome") == DELETED
                rows = self.spark.table(made.identifier).where(F.col("outcome") == DELETED).select("doc_id")
                same = F.col("rows.doc_id") == F.col(f"{made.identifier}.doc_id")
                rows.alias("rows").mergeInto(made.identifier, same & gone).whenMatched().delete().merge()
                is_done = made.publish()
            else:
                is_done = True
        if is_done:
            now = sequence_number(self.lake.table("documents"))
            self.lake.set_property("documents", FOLLOWED_PROPERTY, str(now))

    def _keys(self, lag: _Lag) -> DataFrame:
        return self._read(lag, _KEYS, _KEY_DDL, lambda batches: batches)

    def _read(
        self,
        lag: _Lag,
        columns: list[str],
        ddl: str,
        make: Callable[[Batches], Batches],
        kept_only: bool = False,
    ) -> DataFrame:
        """What `make` makes of the lag's rows, read by Python workers, a group of files each."""
        only = equals("outcome", "kept") if kept_only else None
        return rows_of_files(self.spark, lag.ledger, lag.files, columns, ddl, make, only)


def _marked(ledger: Table) -> int:
    return int(ledger.properties.get(FOLLOWED_PROPERTY, 0))


def _merge(
    made: Branch, rows: DataFrame, ids: tuple[str, ...], columns: Sequence[str], is_other: Column
) -> None:
    """Brings `rows`, told apart by `is_gone`, into the branch; `is_other` tells which there are to change."""
    same = F.lit(True)
    for name in ids:
        same &= F.col(f"rows.{name}") == F.col(f"{made.identifier}.{name}")
    values = {name: F.col(f"rows.{name}") for name in columns}
    (
        rows.alias("rows")
        .mergeInto(made.identifier, same)
        .whenMatched(F.col("rows.is_gone"))
        .delete()
        .whenMatched(is_other)
        .update(values)
        .whenNotMatched(~F.col("rows.is_gone"))
        .insert(values)
        .merge()
    )
