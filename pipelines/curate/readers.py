"""Reads one split: raw records, and a fault where a file cannot be read to its end.

Files are read in Python and not by Spark's readers, which stop the job at the first corrupt file or else
skip it without a word, and replace invalid UTF-8 in silence (docs/adr/0002).
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractFileSystem

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.discover import InputFile, Split

# What the decoders raise for bytes that are not what the file's name says.
_CORRUPT = (pa.ArrowInvalid, pa.ArrowNotImplementedError, EOFError)
_BATCH_ROWS = 256
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class RawRecord:
    """A record as the file has it.

    Attributes:
        position: Its place in the file: row of a Parquet file, byte of a plain JSONL line, line of a
            compressed one, 0 of a text file.
        id: The document's id; None where it has none.
        text: Its text as the file has it: str, bytes not yet decoded, None, or something else.
        source: Its source, where it names one.
        metadata: The further columns.
        fault: A reason why the record itself cannot be read, and what was wrong.
    """

    position: int
    id: Any = None
    text: Any = None
    source: Any = None
    metadata: dict[str, Any] | None = None
    fault: tuple[str, str] | None = None


@dataclass(frozen=True)
class FileFault:
    """A file that could not be read to its end; the records before the fault were read."""

    reason: str
    detail: str


def read_split(
    fs: AbstractFileSystem, split: Split, columns: ColumnsConfig
) -> Iterator[RawRecord | FileFault]:
    """The records that begin in the split, then perhaps one fault. Memory: a batch of rows, or a line.

    Raises:
        OSError: The file cannot be reached, which is the job's fault and not the file's.
    """
    reader = {"parquet": _parquet, "jsonl": _jsonl, "text": _text}[split.file.format]
    try:
        yield from reader(fs, split, columns)
    except _CORRUPT as error:
        yield FileFault("corrupt_file", _line(error))
    except KeyError as error:
        yield FileFault("missing_column", f"the file has no column {error}")
    except PermissionError as error:
        if fs.protocol not in ("file", ("file", "local")):
            raise
        yield FileFault("unreadable_file", _line(error))
    except OSError as error:
        # A codec's fault and a network's are both OSError: where the bytes themselves can be had, the
        # content is at fault.
        if isinstance(error, FileNotFoundError) or not _bytes_can_be_read(fs, split.file):
            raise
        yield FileFault("corrupt_file", _line(error))


def columns_of(fs: AbstractFileSystem, file: InputFile) -> list[str] | None:
    """The columns of a Parquet or JSONL file, of its first 100 lines; None where it cannot be read."""
    try:
        if file.format == "parquet":
            with fs.open(file.path, "rb") as stream:
                return list(pq.ParquetFile(stream).schema_arrow.names)
        names: dict[str, None] = {}
        with _opened(fs, file) as stream:
            for _, line in zip(range(100), stream, strict=False):
                value = json.loads(line) if line.strip() else {}
                names |= dict.fromkeys(value if isinstance(value, dict) else {})
        return list(names)
    except (*_CORRUPT, OSError, ValueError):
        return None


def _parquet(fs: AbstractFileSystem, split: Split, columns: ColumnsConfig) -> Iterator[RawRecord]:
    with fs.open(split.file.path, "rb") as stream:
        parquet = pq.ParquetFile(stream)
        names = parquet.schema_arrow.names
        for needed in (columns.id, columns.text):
            if needed not in names:
                raise KeyError(needed)
        kept = _metadata_columns(names, columns)
        source = columns.source if columns.source in names else None
        wanted = [columns.id, columns.text, *kept, *([source] if source else [])]
        row = 0
        for number in range(parquet.num_row_groups):
            group = parquet.metadata.row_group(number)
            # A row group belongs to the split that holds its middle byte, as in Spark.
            if not split.start <= _middle(group, split.file.size) < split.end:
                row += group.num_rows
                continue
            for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[number], columns=wanted):
                ids, texts = _values(batch, columns.id), _values(batch, columns.text)
                sources = _values(batch, source) if source else [None] * len(ids)
                extras = {name: _values(batch, name) for name in kept}
                for at in range(batch.num_rows):
                    metadata = {name: values[at] for name, values in extras.items()}
                    yield RawRecord(row, ids[at], texts[at], sources[at], metadata)
                    row += 1


def _values(batch: pa.RecordBatch, name: str) -> list[Any]:
    """A column as Python values, strings as bytes: invalid UTF-8 would make pyarrow give up the batch."""
    column = batch.column(batch.schema.get_field_index(name))
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    values: list[Any] = column.to_pylist()
    return values


def _middle(group: pq.RowGroupMetaData, size: int) -> int:
    columns = [group.column(at) for at in range(group.num_columns)]
    start = min(
        column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        for column in columns
    )
    middle: int = start + sum(column.total_compressed_size for column in columns) // 2
    return min(middle, size - 1)


def _jsonl(fs: AbstractFileSystem, split: Split, columns: ColumnsConfig) -> Iterator[RawRecord]:
    for position, line in _lines(fs, split):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except UnicodeDecodeError as error:
            yield RawRecord(position, fault=("invalid_utf8", _line(error)), text=line)
            continue
        except (ValueError, RecursionError) as error:
            yield RawRecord(position, fault=("bad_json", _line(error)), text=line)
            continue
        if not isinstance(value, dict):
            fault = ("bad_json", f"a record must be an object, not {type(value).__name__}")
            yield RawRecord(position, fault=fault, text=line)
            continue
        metadata = {name: value[name] for name in _metadata_columns(value, columns)}
        source = value.get(columns.source) if columns.source else None
        yield RawRecord(position, value.get(columns.id), value.get(columns.text), source, metadata)


def _lines(fs: AbstractFileSystem, split: Split) -> Iterator[tuple[int, bytes]]:
    with _opened(fs, split.file) as stream:
        if split.file.compression:
            yield from enumerate(stream, start=1)
            return
        position = split.start
        if position:
            # The line that is under way at the split's start belongs to the split before.
            stream.seek(position - 1)
            position += len(stream.readline()) - 1
        while position < split.end and (line := stream.readline()):
            yield position, line
            position += len(line)


def _text(fs: AbstractFileSystem, split: Split, columns: ColumnsConfig) -> Iterator[RawRecord]:
    del columns  # a text file has none
    with _opened(fs, split.file) as stream:
        yield RawRecord(0, split.file.name, stream.read(), None, {})


def _opened(fs: AbstractFileSystem, file: InputFile) -> IO[bytes]:
    raw: IO[bytes] = fs.open(file.path, "rb")
    if not file.compression:
        return raw
    # Arrow's decoder takes several members or frames in a file, and says so when the last is cut short.
    # (Python's zstandard ends a cut frame in silence.)
    decoded = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), file.compression)
    return io.BufferedReader(decoded, _READ_BYTES)


def _metadata_columns(names: Any, columns: ColumnsConfig) -> list[str]:
    if columns.metadata is not None:
        return [name for name in columns.metadata if name in names]
    return [name for name in names if name not in (columns.id, columns.text, columns.source)]


def _bytes_can_be_read(fs: AbstractFileSystem, file: InputFile) -> bool:
    try:
        with fs.open(file.path, "rb") as stream:
            while stream.read(_READ_BYTES):
                pass
    except OSError:
        return False
    return True


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
