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
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.typedef import Record

from pipelines.lake import Lake
from pipelines.lake.scan import scan_files

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


def delete_positions(lake: Lake, name: str, path: str, positions: Sequence[int]) -> None:
    """Deletes rows of one data file of a table by their positions, as Spark's merge-on-read does."""
    table: Table = lake.table(name)
    file = next(file for file in scan_files(table) if file.path == path)
    target = f"{table.location()}/data/deletes-{uuid4().hex}.parquet"
    output = table.io.new_output(target)
    with output.create() as stream:
        rows = pa.table({"file_path": [path] * len(positions), "pos": list(positions)}, schema=_SCHEMA)
        pq.write_table(rows, stream)
    deletes = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=target,
        file_format=FileFormat.PARQUET,
        partition=Record(*file.partition),
        record_count=len(positions),
        file_size_in_bytes=len(output),
    )
    deletes.spec_id = file.spec_id
    with table.transaction() as transaction:
        append = _AppendDeletes(Operation.DELETE, transaction, table.io)
        append.deletes = deletes
        append.commit()
