"""What the readers of all formats share: a raw record, a file's fault, and how a file is opened."""

import gzip
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any, cast

import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read.discover import InputFile

READ_BYTES = 1 << 20
_ZSTD_BYTES = 1 << 16


@dataclass(slots=True)  # frozen, it takes three times as long to make
class RawRecord:
    """A record as the file has it.

    Attributes:
        position: Its place in the file: row of a Parquet file, byte of a plain JSONL line, line of a
            compressed one and of CSV, number of a WARC record (the first is 1), 0 of a text file.
        id: The document's id; None where it has none.
        text: Its text as the file has it: str, bytes not yet decoded, None, or something else.
        source: Its source, where it names one.
        metadata: The further columns, that of the arrival among them. A column that the file lacks is
            absent, and not null.
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


class UnreadableFileError(Exception):
    """Raised by a format's reader where a file's content makes it impossible to go on."""

    def __init__(self, reason: str, detail: str) -> None:
        self.fault = FileFault(reason, detail)
        super().__init__(reason, detail)


def check_columns_of_file(names: Iterable[str], file: InputFile, needed: Iterable[str]) -> None:
    """Refuses a file that has not the columns `needed`, whether in itself, in its folders or in its table.

    Raises:
        UnreadableFileError: Names the first column that is absent.
    """
    there = {*names, *(name for name, _ in file.partition), *file.table_columns}
    for name in needed:
        if name not in there:
            raise UnreadableFileError("missing_column", f"the file has no column '{name}'")


def named_columns(columns: ColumnsConfig) -> list[str]:
    """The columns beside id and text that the user asks for by name.

    A file without one of them is not what the user thinks it is. Those of source and arrival may be absent
    where they have their default names.
    """
    named = list(columns.metadata or ())
    if columns.source and "source" in columns.model_fields_set:
        named.append(columns.source)
    if columns.arrival and "arrival" in columns.model_fields_set:
        named.append(columns.arrival)
    return named


def metadata_columns(names: Iterable[str], columns: ColumnsConfig) -> list[str]:
    """Those of the columns `names` that are a record's metadata; that of the arrival is always one."""
    if columns.metadata is not None:
        there = set(names)
        wanted = dict.fromkeys([*columns.metadata, *([columns.arrival] if columns.arrival else [])])
        return [name for name in wanted if name in there]
    apart = (columns.id, columns.text, columns.source)
    return [name for name in names if name not in apart]


def record_of(position: int, row: Mapping[str, Any], columns: ColumnsConfig) -> RawRecord:
    """The record in a row of columns."""
    source = row.get(columns.source) if columns.source else None
    metadata = {name: row[name] for name in metadata_columns(row, columns)}
    return RawRecord(position, row.get(columns.id), row.get(columns.text), source, metadata)


def opened(fs: AbstractFileSystem, file: InputFile) -> IO[bytes]:
    """The file's bytes, decompressed: of gzip all members, of zstd all frames.

    Reading on raises EOFError, OSError or `zlib.error` where a compressed file is damaged or cut short; what
    comes before is read, of zstd up to 64 KiB less.
    """
    raw: IO[bytes] = fs.open(file.path, "rb")
    if file.compression == "gzip":
        return cast(IO[bytes], _Gzip(raw))
    if file.compression == "zstd":
        # Arrow's decoder says so when the last frame is cut short; Python's zstandard ends it in silence.
        decoded = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
        return io.BufferedReader(decoded, _ZSTD_BYTES)
    return raw


class _Gzip(gzip.GzipFile):
    """Closes the file that it reads, too. Arrow's decoder would lose what it read last before a cut."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__(fileobj=raw)
        self._raw = raw

    def close(self) -> None:
        super().close()
        self._raw.close()


def one_line(error: BaseException) -> str:
    """What `error` says, in one line of at most 300 characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
