"""Reads one split: raw records, and a fault where a file cannot be read to its end.

Files are read in Python and not by Spark's readers, which stop the job at the first corrupt file or else
skip it without a word, and replace invalid UTF-8 in silence (docs/adr/0002).
"""

import zlib
from collections.abc import Callable, Iterator

import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read.csv_file import csv_columns, csv_records
from pipelines.curate.read.discover import InputFile, Split
from pipelines.curate.read.line_file import jsonl_columns, jsonl_records, text_records
from pipelines.curate.read.parquet_file import parquet_columns, parquet_records
from pipelines.curate.read.record import READ_BYTES, FileFault, RawRecord, UnreadableFileError, one_line
from pipelines.curate.read.warc_file import warc_records

__all__ = ["FileFault", "RawRecord", "columns_of", "read_split"]

# What the decoders raise for bytes that are not what the file's name says.
_CORRUPT = (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, EOFError, zlib.error)

_RECORDS: dict[str, Callable[[AbstractFileSystem, Split, ColumnsConfig], Iterator[RawRecord]]] = {
    "parquet": parquet_records,
    "jsonl": jsonl_records,
    "csv": csv_records,
    "tsv": csv_records,
    "warc": warc_records,
    "text": text_records,
}
_COLUMNS: dict[str, Callable[[AbstractFileSystem, InputFile], list[str]]] = {
    "parquet": parquet_columns,
    "jsonl": jsonl_columns,
    "csv": csv_columns,
    "tsv": csv_columns,
}


def read_split(
    fs: AbstractFileSystem, split: Split, columns: ColumnsConfig
) -> Iterator[RawRecord | FileFault]:
    """The records that begin in the split, then perhaps one fault. Memory: a batch of rows, or a record.

    Raises:
        OSError: The file cannot be reached, which is the job's fault and not the file's.
    """
    if split.file.drift:
        yield FileFault("partition_drift", split.file.drift)
        return
    try:
        yield from _RECORDS[split.file.format](fs, split, columns)
    except UnreadableFileError as error:
        if split.start == 0:  # the other splits of the file would say the same
            yield error.fault
    except _CORRUPT as error:
        yield FileFault("corrupt_file", one_line(error))
    except PermissionError as error:
        if fs.protocol not in ("file", ("file", "local")):
            raise
        yield FileFault("unreadable_file", one_line(error))
    except OSError as error:
        # A codec's fault and a network's are both OSError: where the bytes themselves can be had, the
        # content is at fault.
        if isinstance(error, FileNotFoundError) or not _bytes_can_be_read(fs, split.file):
            raise
        yield FileFault("corrupt_file", one_line(error))


def columns_of(fs: AbstractFileSystem, file: InputFile) -> list[str] | None:
    """The columns of a file with those of its folders and its table.

    Of JSONL the keys in its first 100 lines. None where the format has no columns, or the file cannot be
    read.
    """
    if file.drift or file.format not in _COLUMNS:
        return None
    try:
        names = _COLUMNS[file.format](fs, file)
    except (*_CORRUPT, OSError, UnreadableFileError):
        return None
    return list(dict.fromkeys([*names, *(name for name, _ in file.partition), *file.table_columns]))


def _bytes_can_be_read(fs: AbstractFileSystem, file: InputFile) -> bool:
    try:
        with fs.open(file.path, "rb") as stream:
            while stream.read(READ_BYTES):
                pass
    except OSError:
        return False
    return True
