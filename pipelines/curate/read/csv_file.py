"""Reads CSV and TSV: quoted as in RFC 4180, with a header. A bad row is a record with a fault of its own."""

import csv
import io
from collections.abc import Iterator

from fsspec.spec import AbstractFileSystem

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read.discover import InputFile, Split
from pipelines.curate.read.record import (
    RawRecord,
    UnreadableFileError,
    check_columns_of_file,
    metadata_columns,
    named_columns,
    one_line,
    opened,
    record_of,
)

# Of one field. The parser holds four bytes a character, and a quote that is never closed would otherwise
# take the rest of the file into memory.
_FIELD_CHARS = 64 << 20


def csv_records(fs: AbstractFileSystem, split: Split, columns: ColumnsConfig) -> Iterator[RawRecord]:
    """The rows of the file; a row's position is the line that it begins in. Blank lines are none.

    Rows with a broken quote, another number of fields than the header, or bytes that are not UTF-8 are
    records with a fault, and the next row is read from the next line.
    """
    partition = dict(split.file.partition)
    with _Rows(fs, split.file) as rows:
        header = rows.header()
        check_columns_of_file(header, split.file, (columns.id, columns.text, *named_columns(columns)))
        wanted = {columns.id, columns.text, columns.source, *metadata_columns(header, columns)}
        for name in set(header):
            if name in wanted and header.count(name) > 1:
                raise UnreadableFileError("duplicate_column", f"the file has several columns '{name}'")
        # pandas gives its index no name
        named = [(at, name) for at, name in enumerate(header) if name]
        for position, row, fault in rows:
            if fault is None and len(row) != len(header):
                found = f"{len(row)} field(s), but {len(header)} in the header"
                fault = ("bad_csv", f"{rows.lines(position)}: {found}")
            if fault is None and (odd := _not_utf8(header, row)) is not None:
                fault = ("invalid_utf8", f"column '{odd}' in {rows.lines(position)}")
            if fault is not None:
                text = rows.delimiter.join(row).encode("utf-8", "surrogateescape")
                yield RawRecord(position, fault=fault, text=text or None)
            else:
                yield record_of(position, {name: row[at] for at, name in named} | partition, columns)


def csv_columns(fs: AbstractFileSystem, file: InputFile) -> list[str]:
    """The file's header.

    Raises:
        UnreadableFileError: It has none, or one that is not UTF-8 or badly quoted.
    """
    with _Rows(fs, file) as rows:
        return rows.header()


class _Rows:
    """The rows of a file: each with the line that it begins in, and a fault where it cannot be parsed."""

    def __init__(self, fs: AbstractFileSystem, file: InputFile) -> None:
        self.delimiter = "\t" if file.format == "tsv" else ","
        # Bytes that are not UTF-8 pass the parser as surrogates, so that each row can be judged by itself.
        # All of CSV's own signs are ASCII, which no part of a longer UTF-8 sequence is.
        self._text = io.TextIOWrapper(
            opened(fs, file), encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        csv.field_size_limit(_FIELD_CHARS)
        self._ended = False
        self._first_line = ""
        self._reader = csv.reader(self._lines(), delimiter=self.delimiter, strict=True)

    def __enter__(self) -> "_Rows":
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()

    def header(self) -> list[str]:
        """The first row."""
        for _, row, fault in self:
            if fault is not None:
                raise UnreadableFileError(fault[0], f"in the header: {fault[1]}")
            if _not_utf8(row, row) is not None:
                raise UnreadableFileError("invalid_utf8", "the header is not UTF-8")
            return row
        raise UnreadableFileError("missing_column", "the file is empty: it has no header")

    def lines(self, position: int) -> str:
        """The lines of the row that was read last, in words."""
        last = self._reader.line_num
        return f"line {position}" if last <= position else f"lines {position} to {last}"

    def __iter__(self) -> Iterator[tuple[int, list[str], tuple[str, str] | None]]:
        while True:
            self._first_line = ""
            position = self._reader.line_num + 1
            try:
                row = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                where = self.lines(position)
                if self._ended or "field limit" in str(error):
                    # What follows may be within the quotes or not: no row of it can be trusted.
                    detail = f"the quote that is open in line {position} is not closed ({one_line(error)})"
                    raise UnreadableFileError("bad_csv", detail) from error
                yield position, [self._first_line], ("bad_csv", f"{where}: {one_line(error)}")
                continue
            if row:
                yield position, row, None

    def _lines(self) -> Iterator[str]:
        for line in self._text:
            self._first_line = self._first_line or line
            yield line
        self._ended = True


def _not_utf8(names: list[str], row: list[str]) -> str | None:
    """The name of the first field with bytes that are not UTF-8."""
    for name, value in zip(names, row, strict=True):
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                return name.encode("utf-8", "replace").decode("utf-8")
    return None
