"""Reads Parquet files: row groups of a split, any type of column as plain Python values."""

import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractFileSystem

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read.discover import InputFile, Split
from pipelines.curate.read.record import (
    RawRecord,
    UnreadableFileError,
    check_columns_of_file,
    metadata_columns,
    named_columns,
    record_of,
)

_BATCH_ROWS = 256
# What pandas writes for an index without a name: a number that says nothing of the document.
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def parquet_records(fs: AbstractFileSystem, split: Split, columns: ColumnsConfig) -> Iterator[RawRecord]:
    """The rows of the row groups whose middle is in the split."""
    partition = dict(split.file.partition)
    with fs.open(split.file.path, "rb") as stream:
        parquet = pq.ParquetFile(stream)
        names = parquet.schema_arrow.names
        check_columns_of_file(names, split.file, (columns.id, columns.text, *named_columns(columns)))
        wanted = [name for name in _wanted(names, columns) if name not in partition]
        for name in wanted:
            if names.count(name) > 1:
                raise UnreadableFileError("duplicate_column", f"the file has several columns '{name}'")
        total = parquet.metadata.num_rows
        is_live = _live_rows(split.file, total)
        row = 0
        for number in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(number).num_rows
            # The place of the middle row, as if all rows were of one size. (pyarrow ends the process where a
            # damaged footer is asked for the place of a column's bytes.)
            if not split.start <= split.file.size * (2 * row + rows) // (2 * total + 1) < split.end:
                row += rows
                continue
            for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[number], columns=wanted):
                values = [_values(batch.column(batch.schema.get_field_index(name))) for name in wanted]
                for at in range(batch.num_rows):
                    if is_live is None or is_live[row]:
                        own = {name: column[at] for name, column in zip(wanted, values, strict=True)}
                        yield record_of(row, own | partition, columns)
                    row += 1


def parquet_columns(fs: AbstractFileSystem, file: InputFile) -> list[str]:
    """The names of the file's columns."""
    with fs.open(file.path, "rb") as stream:
        return list(pq.ParquetFile(stream).schema_arrow.names)


def _wanted(names: list[str], columns: ColumnsConfig) -> list[str]:
    metadata = metadata_columns(names, columns)
    if columns.metadata is None:
        metadata = [name for name in metadata if not _PANDAS_INDEX.fullmatch(name)]
    needed = (columns.id, columns.text, columns.source)
    return list(dict.fromkeys([*(name for name in needed if name in names), *metadata]))


def _values(column: pa.Array) -> list[Any]:
    """A column as Python values, strings as bytes: invalid UTF-8 would make pyarrow give up the batch."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.binary_view())
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:  # within a list or struct
        values = _decoded(column.cast(_with_binary(column.type)).to_pylist())
    except (ValueError, OverflowError):  # a date or time that Python's calendar lacks
        values = column.cast(pa.string()).to_pylist()
    return values


def _with_binary(kind: pa.DataType) -> pa.DataType:
    """The type `kind` with bytes for strings, at any depth."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_with_binary(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_with_binary(kind.key_type), _with_binary(kind.item_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_with_binary(kind.value_type))
    if pa.types.is_list(kind):
        return pa.list_(_with_binary(kind.value_type))
    return kind


def _decoded(value: Any) -> Any:
    """The value with strings for bytes, at any depth, whatever is not UTF-8 replaced."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list | tuple):
        return [_decoded(item) for item in value]
    if isinstance(value, dict):
        return {name: _decoded(item) for name, item in value.items()}
    return value


def _live_rows(file: InputFile, rows: int) -> Any:
    """Of a file with a deletion vector, a mask of the rows that live; else None."""
    if not file.deletions:
        return None
    deleted = np.unpackbits(np.frombuffer(zlib.decompress(file.deletions), np.uint8))[:rows].astype(bool)
    return ~np.pad(deleted, (0, rows - len(deleted)))
