"""Data files made outside an engine: written in a table's layout, described for a commit.

A file's partition is never told by a caller: it is derived from the file's own rows, since Iceberg accepts
a wrong partition value in silence, and readers then miss the rows.
"""

import contextlib
import uuid
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    pyarrow_to_schema,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from pipelines.errors import CommitError


@dataclass(frozen=True)
class WrittenFile:
    """A data file that no snapshot holds yet: what a commit needs to know, and can cross processes.

    Attributes:
        path: Its URI.
        partition: Its partition's values, derived from its rows.
        spec_id: The partition spec that they belong to.
        rows: Number of rows.
        size: Bytes.
        statistics: Column statistics and split offsets, as Iceberg's DataFile takes them.
    """

    path: str
    partition: tuple[Any, ...]
    spec_id: int
    rows: int
    size: int
    statistics: dict[str, Any]

    def data_file(self) -> DataFile:
        """The manifest entry's data file."""
        # Not kept as a DataFile: pickling one loses its spec id (pyiceberg 0.12).
        file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=self.path,
            file_format=FileFormat.PARQUET,
            partition=Record(*self.partition),
            file_size_in_bytes=self.size,
            sort_order_id=None,
            equality_ids=None,
            key_metadata=None,
            **self.statistics,
        )
        file.spec_id = self.spec_id  # no argument of from_args
        return file


@dataclass(frozen=True)
class ParquetLayout:
    """How a table's Parquet files are encoded.

    Attributes:
        vector_columns: List-of-float columns: byte-stream split, no dictionary, no statistics
            (1,297 bytes for 384 float32 against 1,421 without the split, read 1.6 times as fast: RESULTS.md).
        row_group_rows: Rows of a row group. 16,384 x 768 float32 is 48 MiB; 131,072 are read half as fast.
        code_columns: Columns of bytes that are vectors: no dictionary, no statistics. No split either: it
            takes 0.6 % of int8 vectors away (7 % of rotated ones) and they are read a third slower.
        key_columns: Columns whose values hardly repeat: no dictionary. It makes 4.9 bytes of the 3.2 that
            a sorted id such as document-000012345 takes.
    """

    vector_columns: tuple[str, ...] = ()
    row_group_rows: int = 16_384
    code_columns: tuple[str, ...] = ()
    key_columns: tuple[str, ...] = ()


def write_data_file(
    table: Table, rows: pa.Table, name: str, layout: ParquetLayout | None = None
) -> WrittenFile:
    """Writes `rows` as one new Parquet file of `table`, uncommitted: no reader sees it yet.

    Args:
        table: The table; its schema, partition spec and file IO are used.
        rows: Not empty, with the table's columns by name; all rows of one partition.
        name: Start of the file's name; a unique part is added, so that no attempt overwrites another.
        layout: Encoding; the default has no vector columns.

    Returns:
        What a commit needs to know of the file.

    Raises:
        CommitError: No rows, rows of more than one partition, a column absent or of another type, a null key.
    """
    layout = layout or ParquetLayout()
    rows = _conformed(table, rows)
    partition = derive_partition(table, rows)
    path = table.location_provider().new_data_location(f"{name}-{uuid.uuid4().hex[:12]}.parquet")
    vector_paths = [f"{column}.list.element" for column in layout.vector_columns]
    vectors = (*layout.vector_columns, *layout.code_columns)
    plain = [field.name for field in rows.schema if field.name not in vectors]
    repeating = [name for name in plain if name not in layout.key_columns]
    output = table.io.new_output(path)
    try:
        with output.create(overwrite=False) as stream:
            writer = pq.ParquetWriter(
                stream,
                rows.schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=repeating if len(repeating) < len(rows.schema) else True,
                use_byte_stream_split=vector_paths or False,
                write_statistics=plain if vectors else True,
                store_schema=False,
            )
            with writer:
                writer.write_table(rows, row_group_size=layout.row_group_rows)
    except BaseException:
        with contextlib.suppress(Exception):  # what is left is an orphan, which no reader sees
            table.io.delete(path)
        raise
    metadata = writer.writer.metadata
    return _described(table, path, len(output), metadata, partition)


def describe_data_file(table: Table, path: str) -> WrittenFile:
    """Describes a Parquet file that something else wrote, reading its footer and partition columns.

    Raises:
        CommitError: Its columns do not fit the table, or its rows belong to more than one partition.
    """
    source = table.io.new_input(path)
    with source.open() as stream:
        parquet = pq.ParquetFile(stream)
        _check_file(table, parquet, path)
        columns = [table.schema().find_column_name(field.source_id) for field in table.spec().fields]
        keys = parquet.read(columns=columns)
        if any(column.null_count for column in keys.columns):
            raise CommitError(f"{path} has nulls in a column that decides its partition")
        partition = derive_partition(table, keys)
        return _described(table, path, len(source), parquet.metadata, partition)


def derive_partition(table: Table, rows: pa.Table) -> tuple[Any, ...]:
    """The one partition that all rows belong to, by the table's own transforms.

    Raises:
        CommitError: The rows belong to more than one.
    """
    values: list[Any] = []
    schema = table.schema()
    for field in table.spec().fields:
        source = schema.find_field(field.source_id)
        transformed = field.transform.pyarrow_transform(source.field_type)(
            rows.column(source.name).combine_chunks()
        )
        distinct = pa.chunked_array([transformed]) if isinstance(transformed, pa.Array) else transformed
        found = distinct.unique().to_pylist()
        if len(found) != 1:
            raise CommitError(
                f"a data file's rows must share one partition, but '{field.name}' has {len(found)} values"
            )
        values.append(found[0])
    return tuple(values)


def _check_file(table: Table, parquet: pq.ParquetFile, path: str) -> None:
    """Refuses a foreign file that readers could not read: columns go by field id, types are trusted."""
    if parquet.metadata.num_rows == 0:
        raise CommitError(f"{path} has no rows")
    names = parquet.schema_arrow.names
    missing = [field.name for field in table.schema().fields if field.required and field.name not in names]
    if missing:
        raise CommitError(f"{path} lacks the required columns {', '.join(missing)}")
    try:
        found = pyarrow_to_schema(parquet.schema_arrow)
    except ValueError as error:
        raise CommitError(f"{path} carries no field ids", "Write it with the table's own schema") from error
    for field in table.schema().fields:
        if field.name not in names:
            continue
        other = found.find_field(field.name)
        if other.field_id != field.field_id or str(other.field_type) != str(field.field_type):
            raise CommitError(
                f"column '{field.name}' of {path} is {other.field_type} with field id {other.field_id}, "
                f"table {table.name()[-1]} has {field.field_type} with {field.field_id}"
            )


def _conformed(table: Table, rows: pa.Table) -> pa.Table:
    wanted = schema_to_pyarrow(table.schema())
    if rows.num_rows == 0:
        raise CommitError("a data file needs at least one row")
    missing = [field.name for field in wanted if not field.nullable and field.name not in rows.column_names]
    if missing:
        raise CommitError(f"rows for {table.name()[-1]} lack the columns {', '.join(missing)}")
    columns = []
    for field in wanted:
        if field.name not in rows.column_names:
            columns.append(pa.nulls(rows.num_rows, field.type))
            continue
        column = rows.column(field.name)
        inner = getattr(field.type, "value_field", None)
        holes = inner is not None and not inner.nullable and pc.list_flatten(column).null_count
        if holes or (not field.nullable and column.null_count):
            raise CommitError(f"rows for {table.name()[-1]} have nulls in the required column '{field.name}'")
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise CommitError(
                f"column '{field.name}' is {column.type}, table {table.name()[-1]} has {field.type}"
            ) from error
    return pa.Table.from_arrays(columns, schema=wanted)


def _described(
    table: Table, path: str, size: int, metadata: pq.FileMetaData, partition: tuple[Any, ...]
) -> WrittenFile:
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=metadata,
        stats_columns=compute_statistics_plan(table.schema(), table.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(table.schema()),
    )
    return WrittenFile(
        path=path,
        partition=partition,
        spec_id=table.spec().spec_id,
        rows=metadata.num_rows,
        size=size,
        statistics=statistics.to_serialized_dict(),
    )
