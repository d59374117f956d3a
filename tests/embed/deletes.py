"""Position deletes, which pyiceberg 0.12 reads but does not write: a delete file, a manifest, a snapshot."""

from collections.abc import Sequence
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
)
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.typedef import Record

from pipelines.lake import Lake
from pipelines.lake.datafiles import write_data_file
from pipelines.lake.scan import ScanFile, read_file, scan_files

_FILE_PATH = 2147483546
_SCHEMA = pa.schema(
    [
        pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"}),
    ]
)


class _DeleteManifestWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class _AppendDeletes(_FastAppendFiles):
    """A snapshot that adds a delete file to what is there."""

    deletes: DataFile

    def _existing_manifests(self) -> list[ManifestFile]:
        output = self.new_manifest_output()
        with _DeleteManifestWriter(
            self.spec(self.deletes.spec_id),
            self._transaction.table_metadata.schema(),
            output,
            self._snapshot_id,
            "deflate",
        ) as writer:
            writer.add_entry(
                ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED, snapshot_id=self._snapshot_id, data_file=self.deletes
                )
            )
        return [*super()._existing_manifests(), writer.to_manifest_file()]


def delete_positions(lake: Lake, name: str, path: str, positions: Sequence[int], named: bool = False) -> None:
    """Deletes rows of one data file of a table by their positions, as Spark's merge-on-read does."""
    table: Table = lake.table(name)
    file = next(file for file in scan_files(table) if file.path == path)
    with table.transaction() as transaction:
        add_position_deletes(transaction, table, file, positions, named)


def move_rows(lake: Lake, path: str, positions: Sequence[int]) -> None:
    """Moves rows of a data file of `chunks`, their ids too, to a new one: as other metadata does."""
    table: Table = lake.table("chunks")
    file = next(file for file in scan_files(table) if file.path == path)
    rows = read_file(table, file, [column.name for column in table.schema().fields]).take(list(positions))
    with table.transaction() as transaction:
        add_position_deletes(transaction, table, file, positions, named=True)
        with transaction.update_snapshot().fast_append() as append:
            append.append_data_file(write_data_file(table, rows, "chunks").data_file())


def add_position_deletes(
    transaction: Transaction, table: Table, file: ScanFile, positions: Sequence[int], named: bool = False
) -> None:
    """Deletes rows of a data file by their positions, as one more snapshot of a transaction.

    Args:
        transaction: Of the table.
        table: The table.
        file: The data file.
        positions: Of the rows.
        named: Whether statistics tell the one data file, as those that Spark writes do.
    """
    target = f"{table.location()}/data/deletes-{uuid4().hex}.parquet"
    output = table.io.new_output(target)
    with output.create() as stream:
        rows = pa.table({"file_path": [file.path] * len(positions), "pos": list(positions)}, schema=_SCHEMA)
        pq.write_table(rows, stream)
    deletes = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=target,
        file_format=FileFormat.PARQUET,
        partition=Record(*file.partition),
        record_count=len(positions),
        file_size_in_bytes=len(output),
        lower_bounds={_FILE_PATH: file.path.encode()} if named else None,
        upper_bounds={_FILE_PATH: file.path.encode()} if named else None,
    )
    deletes.spec_id = file.spec_id
    append = _AppendDeletes(Operation.DELETE, transaction, table.io)
    append.deletes = deletes
    append.commit()
