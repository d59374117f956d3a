"""CSV and TSV: what is written is read, and what is bad is a reject of its own with its line."""

import csv
import gzip
import io
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read import csv_file
from pipelines.curate.read.discover import discover, filesystem
from pipelines.curate.read.readers import FileFault, RawRecord, columns_of
from pipelines.lake import LakeConfig
from tests.curate.test_readers import read


def texts_of(records: list[tuple[str, RawRecord]]) -> list[object]:
    return [record.text for _, record in records if record.fault is None]


def faults_of(records: list[tuple[str, RawRecord]]) -> list[tuple[int, str, str]]:
    return [(record.position, *record.fault) for _, record in records if record.fault]


@given(
    rows=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=60)), max_size=30),
    ending=st.sampled_from([".csv", ".tsv", ".csv.gz", ".tab.zst"]),
    quoted=st.booleans(),
    bom=st.booleans(),
)
def test_what_is_written_is_read_whatever_its_characters(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    ending: str,
    quoted: bool,
    bom: bool,
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    written = io.StringIO(newline="")
    writer = csv.writer(
        written,
        delimiter="\t" if ending.startswith(".t") else ",",
        quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL,
        lineterminator="\n" if quoted else "\r\n",  # a lone CR is quoted only where the line ends with one
    )
    writer.writerow(("doc_id", "lang", "text"))
    starts = []
    for key, text in rows:
        starts.append(1 + len(re.findall("\r\n|\r|\n", written.getvalue())))
        writer.writerow((key, "en", text))
    data = (b"\xef\xbb\xbf" if bom else b"") + written.getvalue().encode()
    if ending.endswith(".gz"):
        data = gzip.compress(data)
    elif ending.endswith(".zst"):
        data = pa.compress(data, codec="zstd", asbytes=True)
    (folder / f"a{ending}").write_bytes(data)
    records, faults = read(folder)
    assert not faults
    assert [(r.position, r.id, r.text, r.metadata, r.fault) for _, r in records] == [
        (start, key, text, {"lang": "en"}, None) for start, (key, text) in zip(starts, rows, strict=True)
    ]


GOOD = b'%d,"text %d, of ""two""\r\nlines"\n'
BAD = {
    "bad_csv": [b"7\n", b"7,a,b\n", b'7,"a"b"\n', b'7,"a" \n', b'7,"a\nb"c\n'],
    "invalid_utf8": [b"7,\xff\n", b'7,"a\nb\xc3"\n', b"\x80,a\n"],
}


@given(
    kinds=st.lists(st.none() | st.sampled_from([(why, row) for why in BAD for row in BAD[why]]), max_size=40)
)
def test_a_bad_row_is_one_reject_and_the_rows_around_it_are_read(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[tuple[str, bytes] | None]
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    data, good, bad = b"doc_id,text\n", [], []
    for n, kind in enumerate(kinds):
        if kind is None:
            good.append((str(n), f'text {n}, of "two"\r\nlines'))
            data += GOOD % (n, n)
        else:
            bad.append((1 + data.count(b"\n"), kind[0]))
            data += kind[1]
    (folder / "a.csv").write_bytes(data)
    records, faults = read(folder)
    assert not faults
    assert [(r.id, r.text) for _, r in records if r.fault is None] == good
    assert [(position, reason) for position, reason, _ in faults_of(records)] == bad


def test_a_reject_says_which_lines_and_what_was_wrong(tmp_path: Path) -> None:
    rows = b'doc_id,text\na,b,c\n\n"d\ne"x,f\nok,fine\ng,caf\xe9\n"h\ni"\n'
    (tmp_path / "a.csv").write_bytes(rows)
    records, _ = read(tmp_path)
    assert faults_of(records) == [
        (2, "bad_csv", "line 2: 3 field(s), but 2 in the header"),
        (4, "bad_csv", "lines 4 to 5: ',' expected after '\"'"),
        (7, "invalid_utf8", "column 'text' in line 7"),
        (8, "bad_csv", "lines 8 to 9: 1 field(s), but 2 in the header"),
    ]
    assert texts_of(records) == ["fine"]
    assert [record.text for _, record in records if record.fault] == [
        b"a,b,c", b'"d\n', b"g,caf\xe9", b"h\ni",
    ]  # fmt: skip


def test_a_quote_that_is_never_closed_ends_the_file_with_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'doc_id,text\na,b\nc,"d\n' + b"e,f\n" * 1000)
    records, faults = read(tmp_path)
    assert texts_of(records) == ["b"]
    assert faults["a.csv"].reason == "bad_csv"
    assert "open in line 3 is not closed" in faults["a.csv"].detail


def test_a_field_beyond_the_limit_ends_the_file_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file, "_FIELD_CHARS", 1000)
    (tmp_path / "a.csv").write_bytes(b'doc_id,text\na,b\nc,"d\n' + b"e,f\n" * 1000 + b'",""\n')
    records, faults = read(tmp_path)
    assert texts_of(records) == ["b"]
    assert faults["a.csv"].reason == "bad_csv"
    assert "field limit" in faults["a.csv"].detail


def test_a_text_of_a_megabyte_is_one_field(tmp_path: Path) -> None:
    text = 'é "word",\n' * 100_000
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("doc_id", "text"), ("a", text)])
    records, faults = read(tmp_path)
    assert not faults
    assert texts_of(records) == [text]


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (b"", FileFault("missing_column", "the file is empty: it has no header")),
        (b"\n\n", FileFault("missing_column", "the file is empty: it has no header")),
        (b"doc_id;text\na;b\n", FileFault("missing_column", "the file has no column 'doc_id'")),
        (b"doc_id,body\na,b\n", FileFault("missing_column", "the file has no column 'text'")),
        (b"doc_id,text,text\na,b,c\n", FileFault("duplicate_column", "the file has several columns 'text'")),
        (b"doc_id,text,caf\xe9\na,b,c\n", FileFault("invalid_utf8", "the header is not UTF-8")),
        ("doc_id,text\na,b\n".encode("utf-16"), FileFault("invalid_utf8", "the header is not UTF-8")),
    ],
)
def test_without_a_usable_header_the_file_is_rejected(
    tmp_path: Path, header: bytes, fault: FileFault
) -> None:
    (tmp_path / "a.csv").write_bytes(header)
    records, faults = read(tmp_path)
    assert (records, faults) == ([], {"a.csv": fault})


def test_a_header_alone_is_a_file_without_records(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"doc_id,text")
    assert read(tmp_path) == ([], {})


def test_a_file_cut_short_gives_what_comes_before_the_cut(tmp_path: Path) -> None:
    rows = b"".join(b"d%d,%x words\n" % (n, n * 7919**5) for n in range(20_000))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"doc_id,text\n" + rows)[:-5000])
    records, faults = read(tmp_path)
    assert faults["a.csv.gz"].reason == "corrupt_file"
    assert 1000 < len(records) < 20_000
    assert [record.id for _, record in records] == [f"d{n}" for n in range(len(records))]


def test_the_nameless_index_of_pandas_is_no_metadata(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b",doc_id,text,n\n0,a,b,1\n")
    records, _ = read(tmp_path)
    assert records[0][1].metadata == {"n": "1"}


def test_the_columns_are_those_of_the_header_and_the_folders(tmp_path: Path) -> None:
    lake = LakeConfig(dir=tmp_path / "lake")
    (tmp_path / "lang=en").mkdir()
    (tmp_path / "lang=en/a.tsv").write_bytes(b"\xef\xbb\xbfdoc_id\ttext\n")
    (tmp_path / "lang=en/b.csv").write_bytes(b"")
    fs, _ = filesystem(str(tmp_path), lake)
    names = [columns_of(fs, file) for file in discover(str(tmp_path), "auto", None, lake)]
    assert names == [["doc_id", "text", "lang"], None]


def test_only_the_metadata_that_is_asked_for_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"doc_id,text,n,m\na,b,1,2\n")
    records, _ = read(tmp_path, columns=ColumnsConfig(metadata=("m",)))
    assert records[0][1].metadata == {"m": "2"}
