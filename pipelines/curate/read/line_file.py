"""Reads JSON lines, and plain text files."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from fsspec.spec import AbstractFileSystem

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read.discover import InputFile, Split
from pipelines.curate.read.record import (
    RawRecord,
    check_columns_of_file,
    named_columns,
    one_line,
    opened,
    record_of,
)

_HEAD_LINES = 100


def jsonl_records(fs: AbstractFileSystem, split: Split, columns: ColumnsConfig) -> Iterator[RawRecord]:
    """The records in the lines that begin in the split.

    A line that is no object is a record with a fault. A key may be absent in some records; a column that
    the user names must be in one of the first 100 at least.
    """
    partition = dict(split.file.partition)
    if (named := named_columns(columns)) and (names := jsonl_columns(fs, split.file)):
        check_columns_of_file(names, split.file, named)
    for position, line in _lines(fs, split):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except UnicodeDecodeError as error:
            yield RawRecord(position, fault=("invalid_utf8", one_line(error)), text=line)
            continue
        except (ValueError, RecursionError) as error:
            yield RawRecord(position, fault=("bad_json", one_line(error)), text=line)
            continue
        if not isinstance(value, dict):
            fault = ("bad_json", f"a record must be an object, not {type(value).__name__}")
            yield RawRecord(position, fault=fault, text=line)
            continue
        yield record_of(position, value | partition, columns)


def jsonl_columns(fs: AbstractFileSystem, file: InputFile) -> list[str]:
    """The keys of the objects in the file's first 100 lines; fewer where it breaks off before."""
    names: dict[str, None] = {}
    with opened(fs, file) as stream:
        lines = islice(stream, _HEAD_LINES)
        while True:
            try:
                value: Any = json.loads(next(lines))
            except (StopIteration, EOFError, OSError, zlib.error):
                return list(names)
            except (ValueError, RecursionError):
                continue
            names |= dict.fromkeys(value if isinstance(value, dict) else {})


def text_records(fs: AbstractFileSystem, split: Split, columns: ColumnsConfig) -> Iterator[RawRecord]:
    """The file as one record: its id is its name. It has no columns but those of its folders."""
    with opened(fs, split.file) as stream:
        record = record_of(0, dict(split.file.partition), columns)
        yield replace(record, id=split.file.name, text=stream.read())


def _lines(fs: AbstractFileSystem, split: Split) -> Iterator[tuple[int, bytes]]:
    with opened(fs, split.file) as stream:
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
