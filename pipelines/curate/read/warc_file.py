"""Reads WARC and WET files (ISO 28500): the records that are plain text.

These are `conversion` records (the texts of a WET file), and `resource` and `response` records of type
text/plain. All others are left out: text is not extracted from HTML. A document's id is the record's
WARC-Record-ID, which no other record has; the same address may have been fetched many times. Address, date
and language are the metadata `url`, `date` and `language`, and the date is its arrival.
"""

import http.client
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from email.message import Message
from typing import IO, Any, cast

import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read.discover import Split
from pipelines.curate.read.record import (
    READ_BYTES,
    RawRecord,
    UnreadableFileError,
    check_columns_of_file,
    named_columns,
    one_line,
    opened,
    record_of,
)

_METADATA = {
    "url": "warc-target-uri",
    "date": "warc-date",
    "language": "warc-identified-content-language",
}
_TEXT = "text/plain"
_HEADER_LINE_BYTES = 1 << 20
# By the names of HTTP. Crawlers store a response as it was sent, or decoded under other header names.
_CODECS = {"gzip": "gzip", "x-gzip": "gzip", "br": "brotli", "zstd": "zstd"}


def warc_records(fs: AbstractFileSystem, split: Split, columns: ColumnsConfig) -> Iterator[RawRecord]:
    """The text records of the file, numbered as they stand in it, the others counted.

    Raises:
        UnreadableFileError: The file is not WARC, or has no text record at all.
        EOFError: It ends within a record.
    """
    partition = dict(split.file.partition)
    check_columns_of_file([*_METADATA, columns.arrival or ""], split.file, named_columns(columns))
    left_out: Counter[str] = Counter()
    texts = 0
    with opened(fs, split.file) as stream:
        number = 0
        while (header := _header(stream, number + 1)) is not None:
            number += 1
            block = _Block(stream, _length(header, number))
            found, text, fault = _text(header, block)
            for _ in block.pieces():
                pass
            if text is None and fault is None:
                left_out[found] += 1
                continue
            texts += 1
            about = {name: header[field] for name, field in _METADATA.items() if field in header}
            if columns.arrival and "date" in about:
                about[columns.arrival] = about["date"]
            record = record_of(number, about | partition, columns)
            record_id = header.get("warc-record-id", "").strip("<> ") or None
            yield replace(record, id=record_id, text=text, fault=fault)
    if not texts:
        there = ", ".join(f"{found} {count}" for found, count in left_out.most_common(5)) or "none at all"
        raise UnreadableFileError(
            "no_text", f"the file has no text record (it has: {there}); text is not extracted from HTML"
        )


class _Block(io.RawIOBase):
    """The bytes of one record."""

    def __init__(self, stream: IO[bytes], length: int) -> None:
        self._stream = stream
        self._left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(min(len(buffer), self._left))
        if not piece and self._left and len(buffer):
            raise EOFError("the file ends within a record")
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)

    def pieces(self) -> Iterator[bytes]:
        """What is left of it, at most a megabyte at a time: a length may be a lie."""
        while piece := self.read(min(READ_BYTES, self._left)):
            yield piece


def _header(stream: IO[bytes], number: int) -> dict[str, str] | None:
    """The fields of the next record, their names in lower case; None at the file's end."""
    while (line := stream.readline(_HEADER_LINE_BYTES)) in (b"\r\n", b"\n"):
        pass
    if not line:
        return None
    if not line.startswith(b"WARC/"):
        raise UnreadableFileError("corrupt_file", f"where record {number} should begin is no WARC header")
    fields: dict[str, str] = {}
    name = ""
    while (line := stream.readline(_HEADER_LINE_BYTES)) not in (b"\r\n", b"\n"):
        if not line.endswith(b"\n"):
            raise EOFError(f"the file ends within the header of record {number}")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text[:1] in (" ", "\t"):
            fields[name] = f"{fields.get(name, '')} {text.strip()}"
            continue
        name, _, value = text.partition(":")
        name = name.strip().lower()
        fields[name] = value.strip()
    return fields


def _length(header: dict[str, str], number: int) -> int:
    length = header.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise UnreadableFileError("corrupt_file", f"record {number} has the length '{length[:40]}'")
    return int(length)


def _text(header: dict[str, str], block: _Block) -> tuple[str, str | bytes | None, tuple[str, str] | None]:
    """What the record is, its text where it is one, and a fault where the text cannot be had."""
    kind = header.get("warc-type", "record without a type")
    declared = header.get("content-type", _TEXT if kind == "conversion" else "")
    if kind in ("conversion", "resource") and _type(declared) == _TEXT:
        return kind, _decoded(b"".join(block.pieces()), declared), None
    if kind != "response" or _type(declared) != "application/http":
        return f"{kind} {_type(declared)}".strip(), None, None
    try:
        return _http_text(block)
    except (http.client.HTTPException, ValueError) as error:
        return kind, None, ("bad_http", one_line(error))


def _http_text(block: _Block) -> tuple[str, str | bytes | None, tuple[str, str] | None]:
    response = http.client.HTTPResponse(cast(Any, _Socket(block)))
    response.begin()
    declared = response.headers.get("Content-Type", "")
    found = f"response {response.status} {_type(declared)}".strip()
    if response.status // 100 != 2 or _type(declared) != _TEXT:
        return found, None, None
    # A length that is given is not heeded: it may be that of the text before a crawler decoded it.
    body = response.read() if response.chunked else response.fp.read()
    body = _unpacked(body, response.headers.get("Content-Encoding", "").strip().lower())
    return found, _decoded(body, declared), None


class _Socket:
    """What `HTTPResponse` needs of a socket."""

    def __init__(self, block: _Block) -> None:
        self._block = block

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode
        return io.BufferedReader(self._block)


def _unpacked(body: bytes, coding: str) -> bytes:
    """The body without its content coding; as it is where a crawler has removed a gzip and left its name."""
    try:
        if coding == "deflate":
            return zlib.decompress(body)
        if coding in _CODECS and (_CODECS[coding] != "gzip" or body.startswith(b"\x1f\x8b")):
            unpacked: bytes = pa.CompressedInputStream(pa.BufferReader(body), _CODECS[coding]).read()
            return unpacked
    except (OSError, zlib.error) as error:
        raise ValueError(f"the body is not {coding}: {one_line(error)}") from error
    return body


def _type(declared: str) -> str:
    return declared.partition(";")[0].strip().lower()


def _decoded(body: bytes, declared: str) -> str | bytes:
    """The text by the charset that its type names; the bytes where it names none or a wrong one."""
    about = Message()
    about["Content-Type"] = declared
    charset = about.get_content_charset("utf-8")
    if charset in ("utf-8", "utf8"):
        return body
    try:
        return body.decode(charset)
    except (LookupError, ValueError):
        return body
