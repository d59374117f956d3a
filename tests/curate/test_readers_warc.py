"""WARC and WET: an independent writer's files are read, and what is no text is told."""

import gzip
import io
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read.readers import FileFault
from tests.curate.test_readers import read

URL = "https://example.org/a?b=c&d=é"


def record_id(number: int) -> str:
    return f"urn:uuid:00000000-0000-0000-0000-{number:012}"


class Archive:
    """A file written by warcio."""

    def __init__(self, is_gzip: bool) -> None:
        self.sink = io.BytesIO()
        self.writer = WARCWriter(self.sink, gzip=is_gzip)
        self.ends: list[int] = []

    def add(
        self,
        kind: str,
        body: bytes,
        content_type: str = "text/plain",
        http: list[tuple[str, str]] | None = None,
        status: str = "200 OK",
        **headers: str,
    ) -> None:
        fields = {
            "WARC-Record-ID": f"<{record_id(len(self.ends))}>",
            "WARC-Date": "2026-01-02T03:04:05Z",
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        self.writer.write_record(
            self.writer.create_warc_record(
                URL,
                kind,
                payload=io.BytesIO(body),
                length=len(body),
                warc_content_type=content_type,
                warc_headers_dict=fields,
                http_headers=StatusAndHeaders(status, http, protocol="HTTP/1.1")
                if http is not None
                else None,
            )
        )
        self.ends.append(self.sink.tell())

    def response(self, body: bytes, *http: tuple[str, str], status: str = "200 OK") -> None:
        self.add("response", body, "application/http; msgtype=response", list(http), status)

    def data(self) -> bytes:
        return self.sink.getvalue()


def written(folder: Path, archive: Archive, name: str = "a.warc.gz") -> None:
    (folder / name).write_bytes(archive.data())


@given(
    texts=st.lists(st.text(max_size=80), min_size=1, max_size=20),
    between=st.lists(st.sampled_from(["warcinfo", "metadata", "request", "html"]), max_size=20),
    is_gzip=st.booleans(),
)
def test_the_texts_that_are_written_are_read_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], between: list[str], is_gzip: bool
) -> None:
    folder = tmp_path_factory.mktemp("warc")
    archive = Archive(is_gzip)
    expected = []
    for at, text in enumerate(texts):
        for kind in between[at : at + 1]:
            if kind == "html":
                archive.response(b"<p>no</p>", ("Content-Type", "text/html"))
            elif kind == "request":
                archive.add(
                    "request", b"", "application/http; msgtype=request", [("Host", "a")], "GET / HTTP/1.1"
                )
            else:
                archive.add(kind, b"fetched: yes\r\nWARC/1.0\r\n", "application/warc-fields")
        expected.append((len(archive.ends) + 1, record_id(len(archive.ends)), text.encode()))
        archive.add("conversion", text.encode(), WARC_Identified_Content_Language="eng,deu")
    name = "a.warc.wet.gz" if is_gzip else "a.wet"
    written(folder, archive, name)
    records, faults = read(folder)
    assert not faults
    assert [(r.position, r.id, r.text) for _, r in records] == expected
    moment = "2026-01-02T03:04:05Z"
    about = {"url": URL, "date": moment, "language": "eng,deu", "arrived_at": moment}
    assert all(record.metadata == about and record.fault is None for _, record in records)


@pytest.mark.parametrize("is_gzip", [True, False])
def test_wherever_a_file_is_cut_the_whole_records_are_read_and_the_cut_is_told(
    tmp_path: Path, is_gzip: bool
) -> None:
    archive = Archive(is_gzip)
    for n in range(4):
        archive.add("conversion", f"text {n} ".encode() * 3)
    data = archive.data()
    for cut in range(1, len(data)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / ("a.warc.gz" if is_gzip else "a.warc")).write_bytes(data[:cut])
        records, faults = read(folder)
        whole = sum(end <= cut for end in archive.ends)
        assert [record.text for _, record in records][:whole] == [
            f"text {n} ".encode() * 3 for n in range(whole)
        ]
        if faults:
            assert {fault.reason for fault in faults.values()} == {"corrupt_file"}
            assert len(records) in (whole, whole + 1)  # of gzip the check at the end may be what is cut
        else:  # only where nothing of a record is missing: its end, or in its blank lines
            assert data[cut:].lstrip(b"\r\n").startswith((b"WARC/", b"\x1f\x8b")) or len(records) == 4


def test_a_response_is_read_where_it_is_plain_text_however_it_was_sent(tmp_path: Path) -> None:
    plain = ("Content-Type", "text/plain; charset=UTF-8")
    chunked = b"5\r\nhello\r\n8;x=y\r\n, w\xc3\xb6rld\r\n0\r\n\r\n"
    archive = Archive(True)
    archive.response("hello, wörld".encode(), plain)
    archive.response(chunked, plain, ("Transfer-Encoding", "chunked"))
    archive.response(gzip.compress("hello, wörld".encode()), plain, ("Content-Encoding", "gzip"))
    archive.response("hello, wörld".encode(), plain, ("Content-Encoding", "gzip"))  # decoded, header left
    archive.response(zlib.compress("hello, wörld".encode()), plain, ("Content-Encoding", "deflate"))
    archive.response("hello, wörld".encode(), plain, ("Content-Length", "3"))
    archive.response("hello, wörld".encode("cp1252"), ("Content-Type", 'TEXT/plain; charset="windows-1252"'))
    archive.response("hello, wörld".encode(), ("Content-Type", "text/plain; charset=no-such"))
    archive.response("hello, wörld".encode(), ("Content-Type", "text/plain; charset=us-ascii"))
    archive.add("resource", "hello, wörld".encode())
    archive.response(b"not found", plain, status="404 Not Found")
    archive.response(b"no type")
    archive.response(b"%PDF", ("Content-Type", "application/pdf"))
    written(tmp_path, archive)
    records, faults = read(tmp_path)
    assert not faults
    texts = [r.text.decode() if isinstance(r.text, bytes) else r.text for _, r in records]
    assert texts == ["hello, wörld"] * 10


def test_a_response_that_cannot_be_unpacked_is_a_reject_and_the_next_is_read(tmp_path: Path) -> None:
    plain = ("Content-Type", "text/plain")
    archive = Archive(False)
    archive.response(gzip.compress(b"hello" * 99)[:-9], plain, ("Content-Encoding", "gzip"))
    archive.response(b"zz\r\nhello", plain, ("Transfer-Encoding", "chunked"))
    archive.sink.write(
        b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nWARC-Record-ID: <x>\r\n"
        b"Content-Length: 14\r\n\r\nno HTTP at all\r\n\r\n"
    )
    archive.add("conversion", b"fine")
    written(tmp_path, archive, "a.warc")
    records, faults = read(tmp_path)
    assert not faults
    assert [(r.id, r.fault and r.fault[0]) for _, r in records] == [
        (record_id(0), "bad_http"), (record_id(1), "bad_http"), ("x", "bad_http"), (record_id(2), None),
    ]  # fmt: skip


def test_a_file_without_text_is_rejected_and_says_what_it_has(tmp_path: Path) -> None:
    archive = Archive(True)
    archive.add("warcinfo", b"software: x\r\n", "application/warc-fields")
    for _ in range(3):
        archive.response(b"<p>", ("Content-Type", "text/html; charset=utf-8"))
    written(tmp_path, archive)
    (tmp_path / "empty.wet").write_bytes(b"")
    records, faults = read(tmp_path)
    assert not records
    why = "the file has no text record (it has: {}); text is not extracted from HTML"
    found = "response 200 text/html 3, warcinfo application/warc-fields 1"
    assert faults == {
        "a.warc.gz": FileFault("no_text", why.format(found)),
        "empty.wet": FileFault("no_text", why.format("none at all")),
    }


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html></html>", "where record 1 should begin is no WARC header"),
        (b"WARC/1.0\r\nContent-Length: ten\r\n\r\n", "record 1 has the length 'ten'"),
        (b"WARC/1.0\r\nWARC-Type: conversion\r\n\r\nhello", "record 1 has the length ''"),
        (b"WARC/1.0\r\nContent-Length: 99999999999999999\r\n\r\nx", "the file ends within a record"),
        (b"WARC/1.0\r\nContent-Length: 2\r\n\r\nhello\r\n\r\n", "where record 2 should begin"),
    ],
)
def test_a_file_that_is_not_warc_is_corrupt(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.warc").write_bytes(data)
    _, faults = read(tmp_path)
    assert faults["a.warc"].reason == "corrupt_file"
    assert words in faults["a.warc"].detail


def test_headers_are_read_as_the_standard_spells_them(tmp_path: Path) -> None:
    data = (
        b"\r\nWARC/1.1\nwarc-type:conversion\nCONTENT-LENGTH:  2\nWARC-Target-URI: https://a/\n\tb\n\nhi\n\n"
        b"WARC/1.1\r\nWARC-Type: conversion\r\nContent-Length: 0\r\n\r\n\r\n\r\n"
    )
    (tmp_path / "a.warc").write_bytes(data)
    records, faults = read(tmp_path)
    assert not faults
    got: list[Any] = [(r.id, r.text, r.metadata) for _, r in records]
    assert got == [(None, b"hi", {"url": "https://a/ b"}), (None, b"", {})]


def metadata_with(folder: Path, columns: ColumnsConfig) -> Iterable[Any]:
    records, faults = read(folder, columns=columns)
    return [record.metadata for _, record in records] or list(faults.values())


def test_the_metadata_that_is_asked_for_is_kept_and_must_be_one_that_there_is(tmp_path: Path) -> None:
    archive = Archive(True)
    archive.add("conversion", b"hi")
    (tmp_path / "crawl=x").mkdir()
    written(tmp_path / "crawl=x", archive)
    moment = "2026-01-02T03:04:05Z"
    assert metadata_with(tmp_path, ColumnsConfig(metadata=("crawl",), arrival="came")) == [
        {"crawl": "x", "came": moment}
    ]
    assert metadata_with(tmp_path, ColumnsConfig(metadata=("url",), arrival=None)) == [{"url": URL}]
    assert metadata_with(tmp_path, ColumnsConfig(metadata=("lang",))) == [
        FileFault("missing_column", "the file has no column 'lang'")
    ]
