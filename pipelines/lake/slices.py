"""Reads some rows of one data file, by their positions in it: a large file is many slices."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table

from pipelines.errors import CommitError
from pipelines.lake.scan import ScanFile

_FIELD_ID = b"PARQUET:field_id"


def read_slice(
    table: Table, file: ScanFile, start: int, stop: int, columns: Sequence[str]
) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The live rows at the positions from `start` to before `stop`, and those positions.

    Only the row groups that hold such a position are fetched.

    Args:
        table: The table; columns are found by field id, so a renamed one is no matter.
        file: A Parquet file of it, with every file of position deletes that may name it.
        start: First position.
        stop: One past the last; more than the file has is as many as it has.
        columns: Names, in the order wanted.

    Raises:
        FileNotFoundError: The file is gone.
        CommitError: The file lacks a required column.
    """
    with table.io.new_input(file.path).open() as stream, pq.ParquetFile(stream, pre_buffer=True) as parquet:
        bounds = np.cumsum(
            [0] + [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        )
        stop = min(stop, int(bounds[-1]))
        groups = np.flatnonzero((bounds[1:] > start) & (bounds[:-1] < stop))
        names = _names_in_file(table, parquet.schema_arrow, columns, file.path)
        rows = parquet.read_row_groups(groups.tolist(), columns=names).select(names)
    first = int(bounds[groups[0]]) if len(groups) else start
    rows = rows.slice(start - first, max(0, stop - start))
    schema = schema_to_pyarrow(table.schema().select(*columns), include_field_ids=False)
    rows = rows.rename_columns(list(columns)).cast(pa.schema([schema.field(name) for name in columns]))
    positions = np.arange(start, start + rows.num_rows, dtype=np.int64)
    if file.deletes:
        live = ~np.isin(positions, deleted_positions(table, file))
        rows, positions = rows.filter(pa.array(live)), positions[live]
    return rows, positions


def deleted_positions(table: Table, file: ScanFile) -> npt.NDArray[np.int64]:
    """The positions that the file's deletes name."""
    found = [np.empty(0, dtype=np.int64)]
    for path in file.deletes:
        # Not by read_table, which makes a dataset of a stream first: 1 ms, many times what such a file costs.
        with table.io.new_input(path).open() as stream, pq.ParquetFile(stream) as parquet:
            deletes = parquet.read(columns=["file_path", "pos"], use_threads=False)
        found.append(deletes.filter(pc.equal(deletes["file_path"], file.path))["pos"].to_numpy())
    return np.concatenate(found)


def _names_in_file(table: Table, schema: pa.Schema, columns: Sequence[str], path: str) -> list[str]:
    by_id = {
        int(field.metadata[_FIELD_ID]): field.name
        for field in schema
        if field.metadata and _FIELD_ID in field.metadata
    }
    names = []
    for column in columns:
        name = by_id.get(table.schema().find_field(column).field_id)
        if name is None:
            raise CommitError(
                f"the data file {path} has no column '{column}'",
                "Another version of embedlake wrote it: curate the corpus into another namespace",
            )
        names.append(name)
    return names
