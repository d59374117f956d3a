"""One atomic change of a table that adds files and takes rows away, made only if nobody else changed it.

pyiceberg 0.12 reads position deletes and writes none. Files of them are small and the format is fixed
(Iceberg spec, "Position Delete Files"), so they are written here; the rest is pyiceberg's own commit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
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
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import Table, TableProperties, Transaction
from pyiceberg.table.snapshots import (
    Operation,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update.snapshot import _SnapshotProducer
from pyiceberg.typedef import EMPTY_DICT, Record
from pyiceberg.types import LongType, StringType

from pipelines.errors import CommitError
from pipelines.lake.datafiles import WrittenFile

RUN_PROPERTY = "embedlake.run-id"

# Field ids of a position delete file's columns (Iceberg spec, "Reserved Field IDs").
_FILE_PATH, _POS = 2147483546, 2147483545
_DELETES = pa.schema(
    [
        pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": str(_FILE_PATH)}),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": str(_POS)}),
    ]
)


@dataclass(frozen=True)
class DeadRows:
    """Rows of one data file that are to go.

    Attributes:
        path: The data file's URI.
        partition: Its partition's values.
        spec_id: The partition spec that they belong to.
        positions: Of the rows in the file, ascending.
    """

    path: str
    partition: tuple[Any, ...]
    spec_id: int
    positions: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Delta:
    """What a commit does to a table.

    Attributes:
        added: New data files.
        dead: Rows that go, each file named once.
        replaces: Whether all that was in the table goes, whatever it was; `dead` is empty then.
    """

    added: Sequence[WrittenFile]
    dead: Sequence[DeadRows] = ()
    replaces: bool = False


def commit_delta(
    table: Table, delta: Delta, run_id: str, summary: Mapping[str, str], properties: Mapping[str, str]
) -> bool:
    """Makes the change to the table as `table` was last read; refreshes it.

    Killed before the commit, the table is as it was, and files of deletes that were written are orphans.

    Args:
        table: As the delta was made for.
        delta: What to change.
        run_id: Of the caller, goes into the snapshot's summary: it tells whether a commit of which no answer
            came has landed.
        summary: More of the summary.
        properties: Properties of the table that are set by the same commit.

    Returns:
        False where another commit came first; the table is then as that left it.

    Raises:
        CommitError: The files were written for another partition spec.
    """
    if any(file.spec_id != table.spec().spec_id for file in delta.added):
        raise CommitError("data files were written for another partition spec", "Run again")
    deletes = [_write_deletes(table, dead) for dead in delta.dead]
    metadata = table.metadata
    # A handle of its own, whose retries are off: a lost race must come back to the caller.
    once = metadata.model_copy(
        update={"properties": {**metadata.properties, TableProperties.COMMIT_NUM_RETRIES: "0"}}
    )
    handle = Table(table.name(), once, table.metadata_location, table.io, table.catalog)
    try:
        with handle.transaction() as transaction:
            if properties:
                transaction.set_properties(dict(properties))
            _DeltaProducer(transaction, delta, deletes, {**summary, RUN_PROPERTY: run_id}).commit()
    except CommitFailedException:
        table.refresh()
        return False
    except CommitStateUnknownException:
        table.refresh()
        return any(
            snapshot.summary is not None
            and snapshot.summary.additional_properties.get(RUN_PROPERTY) == run_id
            for snapshot in table.snapshots()
        )
    table.refresh()
    return True


def _write_deletes(table: Table, dead: DeadRows) -> DataFile:
    """A file that names the rows; bounds of its paths tell readers which data file it is for."""
    path = table.location_provider().new_data_location(f"deletes-{uuid4().hex}.parquet")
    rows = pa.Table.from_arrays(
        [pa.array([dead.path] * len(dead.positions), pa.string()), pa.array(dead.positions, pa.int64())],
        schema=_DELETES,
    )
    output = table.io.new_output(path)
    with output.create(overwrite=False) as stream:
        pq.write_table(rows, stream, compression="zstd", store_schema=False)
    name = to_bytes(StringType(), dead.path)
    first, last = (to_bytes(LongType(), int(dead.positions[at])) for at in (0, -1))
    file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(*dead.partition),
        record_count=len(dead.positions),
        file_size_in_bytes=len(output),
        lower_bounds={_FILE_PATH: name, _POS: first},
        upper_bounds={_FILE_PATH: name, _POS: last},
        sort_order_id=None,
        equality_ids=None,
        key_metadata=None,
    )
    file.spec_id = dead.spec_id  # no argument of from_args
    return file


class _DeleteManifestWriter(ManifestWriterV2):
    """A manifest of delete files; pyiceberg's own is for data files alone."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class _DeltaProducer(_SnapshotProducer["_DeltaProducer"]):
    """A snapshot of what was there, or of nothing, with files and deletes more."""

    def __init__(
        self, transaction: Transaction, delta: Delta, deletes: Sequence[DataFile], summary: dict[str, str]
    ) -> None:
        changes = bool(deletes) or delta.replaces
        super().__init__(
            Operation.OVERWRITE if changes else Operation.APPEND,
            transaction,
            transaction._table.io,
            snapshot_properties=summary,
        )
        self._delta = delta
        self._deletes = deletes
        self._dropped = self._live() if delta.replaces else []
        for file in delta.added:
            self.append_data_file(file.data_file())

    def _live(self) -> list[ManifestEntry]:
        """Entries of all data and delete files that are there."""
        return [
            entry
            for manifest in self._existing()
            for entry in manifest.fetch_manifest_entry(self._io, discard_deleted=True)
        ]

    def _existing(self) -> list[ManifestFile]:
        snapshot = self._transaction.table_metadata.current_snapshot()
        return snapshot.manifests(io=self._io) if snapshot else []

    def _existing_manifests(self) -> list[ManifestFile]:
        return [] if self._delta.replaces else self._existing()

    def _deleted_entries(self) -> list[ManifestEntry]:
        """Data files that go, to be told so; files of deletes go without a word, as nothing needs one."""
        return [
            ManifestEntry.from_args(
                status=ManifestEntryStatus.DELETED,
                snapshot_id=self._snapshot_id,
                sequence_number=entry.sequence_number,
                file_sequence_number=entry.file_sequence_number,
                data_file=entry.data_file,
            )
            for entry in self._dropped
            if entry.data_file.content == DataFileContent.DATA
        ]

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        by_spec: dict[int, list[DataFile]] = {}
        for file in self._deletes:
            by_spec.setdefault(file.spec_id, []).append(file)
        return manifests + [self._delete_manifest(self.spec(key), files) for key, files in by_spec.items()]

    def _delete_manifest(self, spec: PartitionSpec, files: Sequence[DataFile]) -> ManifestFile:
        output = self.new_manifest_output()
        with _DeleteManifestWriter(
            spec, self.schema(), output, self._snapshot_id, self._compression
        ) as writer:
            for file in files:
                writer.add(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=self._snapshot_id,
                        sequence_number=None,
                        file_sequence_number=None,
                        data_file=file,
                    )
                )
        return writer.to_manifest_file()

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        metadata = self._transaction.table_metadata
        collector = SnapshotSummaryCollector()
        for file in (*self._added_data_files, *self._deletes):
            collector.add_file(file, metadata.schema())
        for entry in self._dropped:
            collector.remove_file(entry.data_file, metadata.schema())
        before = metadata.current_snapshot()
        return update_snapshot_summaries(
            Summary(operation=self._operation, **collector.build(), **snapshot_properties),
            before.summary if before else None,
        )

    def _validate_concurrency(self) -> None:
        """Nothing to look at: the commit is refused where the table is not as it was."""
