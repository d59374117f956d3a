"""Reads a snapshot one data file at a time: bounded memory, position deletes left out, any process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask, Table
from pyiceberg.typedef import Record

from pipelines.errors import CommitError


@dataclass(frozen=True)
class ScanFile:
    """A live data file with the position deletes that apply to it; small, and may cross processes.

    Attributes:
        path: Its URI.
        partition: Its partition's values, by the spec `spec_id`.
        spec_id: The partition spec that it was written for.
        rows: Rows in the file, deleted ones included.
        deletes: URIs of the Parquet files of position deletes.
    """

    path: str
    partition: tuple[Any, ...]
    spec_id: int
    rows: int
    deletes: tuple[str, ...] = ()


def scan_files(
    table: Table, row_filter: BooleanExpression | None = None, snapshot_id: int | None = None
) -> list[ScanFile]:
    """The live data files that may hold rows of `row_filter`, as `table` was last read.

    Args:
        table: The table.
        row_filter: All files where None.
        snapshot_id: Of the snapshot whose files are wanted; the current one where None.

    Raises:
        CommitError: The table holds equality deletes, which pyiceberg 0.12 cannot apply.
    """
    try:
        tasks = list(table.scan(row_filter=row_filter or AlwaysTrue(), snapshot_id=snapshot_id).plan_files())
    except ValueError as error:
        if "equality deletes" not in str(error):
            raise
        raise CommitError(
            f"{table.name()[-1]} holds equality deletes, which cannot be read here",
            "Rewrite its data files with Spark: CALL system.rewrite_data_files",
        ) from error
    return [
        ScanFile(
            path=task.file.file_path,
            partition=partition_values(task.file),
            spec_id=task.file.spec_id,
            rows=task.file.record_count,
            deletes=tuple(sorted(delete.file_path for delete in task.delete_files)),
        )
        for task in tasks
    ]


def partition_values(file: DataFile) -> tuple[Any, ...]:
    """A manifest entry's partition as plain values."""
    return tuple(file.partition[position] for position in range(len(file.partition)))


def read_batches(
    table: Table, file: ScanFile, columns: Sequence[str], row_filter: BooleanExpression | None = None
) -> Iterator[pa.RecordBatch]:
    """One file's rows, in the file's order, deleted ones left out; the file is in memory while it is read.

    `DataScan.to_arrow_batch_reader` of pyiceberg 0.12 hands all files to its thread pool at once, so a slow
    reader of it ends up with the whole table in memory. File by file it cannot.

    Args:
        table: The table; columns are found by field id, so a renamed one is no matter.
        file: Of `scan_files`, or made from a manifest entry.
        columns: Names, in the order wanted.
        row_filter: Only rows that match it.

    Yields:
        Batches with `columns`; strings and lists come as pyarrow's large types.
    """
    scan = ArrowScan(table.metadata, table.io, table.schema().select(*columns), row_filter or AlwaysTrue())
    yield from (batch.select(list(columns)) for batch in scan.to_record_batches([_task(file)]))


def read_file(
    table: Table, file: ScanFile, columns: Sequence[str], row_filter: BooleanExpression | None = None
) -> pa.Table:
    """`read_batches` as one table, which may have no rows but always has the columns."""
    schema = schema_to_pyarrow(table.schema().select(*columns), include_field_ids=False)
    batches = list(read_batches(table, file, columns, row_filter))
    rows = pa.Table.from_batches(batches) if batches else schema.empty_table().select(list(columns))
    # pyiceberg gives string or large_string, as it comes; here it is always the same.
    wanted = pa.schema([schema.field(name) for name in columns])
    return rows if rows.schema.equals(wanted) else rows.cast(wanted)


def _task(file: ScanFile) -> FileScanTask:
    # Rebuilt, not pickled: a pickled DataFile loses its spec id (pyiceberg 0.12).
    data_file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=file.path,
        file_format=FileFormat.PARQUET,
        partition=Record(*file.partition),
        record_count=file.rows,
    )
    data_file.spec_id = file.spec_id  # no argument of from_args
    deletes = {
        DataFile.from_args(
            content=DataFileContent.POSITION_DELETES,
            file_path=path,
            file_format=FileFormat.PARQUET,
        )
        for path in file.deletes
    }
    return FileScanTask(data_file, delete_files=deletes)
