"""What a table got since a sequence number: its newer files, and whether rows were only added."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
from pyiceberg.expressions import BooleanExpression
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import StaticTable, Table
from pyiceberg.table.snapshots import Operation, Snapshot

from pipelines.lake import s3
from pipelines.lake.config import LakeConfig
from pipelines.lake.scan import ScanFile, read_batches, scan_files


def sequence_number(table: Table) -> int:
    """The sequence number of the current snapshot; 0 where there is none. It grows with every change."""
    snapshot = table.current_snapshot()
    return 0 if snapshot is None else int(snapshot.sequence_number or 0)


def files_since(table: Table, sequence: int) -> list[ScanFile]:
    """The live data files with rows that came after the snapshot of `sequence`, as `table` was last read.

    A file that compaction made has the number of the snapshot that compaction began with: it does not count
    as new for whoever has followed that one.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return []
    added = {
        entry.data_file.file_path
        for manifest in snapshot.manifests(table.io)
        if manifest.content == ManifestContent.DATA and manifest.sequence_number > sequence
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        if (entry.sequence_number or 0) > sequence
    }
    return [file for file in scan_files(table) if file.path in added] if added else []


def only_added_since(table: Table, sequence: int) -> bool:
    """Whether every change since the snapshot of `sequence` is known and has added rows, and no more."""
    for snapshot in history(table):
        if int(snapshot.sequence_number or 0) <= sequence:
            return True
        if snapshot.summary is None or snapshot.summary.operation != Operation.APPEND:
            return False
    return sequence == 0 and not is_cut_short(table)


def last_property(table: Table, name: str) -> str | None:
    """The value that the newest snapshot with such a property in its summary has."""
    for snapshot in history(table):
        if snapshot.summary and name in snapshot.summary.additional_properties:
            return snapshot.summary.additional_properties[name]
    return None


def history(table: Table) -> Iterator[Snapshot]:
    """The current snapshot and those that led to it, newest first, as far as they are still known."""
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else table.snapshot_by_id(parent)


def is_cut_short(table: Table) -> bool:
    """Whether snapshots that led to the current one are no longer known: an expiry has dropped them."""
    oldest = None
    for oldest in history(table):  # noqa: B007 - the last one is wanted
        pass
    return oldest is not None and oldest.parent_snapshot_id is not None


@dataclass(frozen=True)
class RemoteTable:
    """A table as it was once read, for any process: it opens no catalogue and carries no secret.

    Attributes:
        config: Of the lake; the object store's credentials come from each process's own environment.
        metadata_location: Of the table, as it was.
    """

    config: LakeConfig
    metadata_location: str

    def batches(
        self, files: Iterable[ScanFile], columns: list[str], row_filter: BooleanExpression | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of some of its files, one file in memory at a time."""
        table = opened_table(self.config, self.metadata_location)
        for file in files:
            yield from read_batches(table, file, columns, row_filter)


def opened_table(config: LakeConfig, metadata_location: str) -> StaticTable:
    """A table as it was once read, in any process: read once, and kept. It can be read, not committed to."""
    return _opened(config.model_dump_json(), metadata_location)


@lru_cache(maxsize=8)
def _opened(config: str, metadata_location: str) -> StaticTable:
    lake = LakeConfig.model_validate_json(config)
    properties = s3.pyiceberg_properties(lake.s3) if s3.is_used(lake) else {}
    return StaticTable.from_metadata(metadata_location, properties)
