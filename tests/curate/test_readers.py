"""Reading files as they come: formats, compression, splits, and the faults of each."""

import gzip
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read.discover import InputFile, Split, discover, filesystem, split_files
from pipelines.curate.read.readers import FileFault, RawRecord, read_split
from pipelines.errors import EmptyInputError, InputError
from pipelines.lake import LakeConfig

COLUMNS = ColumnsConfig()


def read(
    folder: Path, split_bytes: int = 1 << 20, columns: ColumnsConfig = COLUMNS
) -> tuple[list[tuple[str, RawRecord]], dict[str, FileFault]]:
    """All records of a folder with their files' names, and the faults by file."""
    return read_location(str(folder), LakeConfig(dir=folder / "lake"), split_bytes, columns)


def read_location(
    location: str, lake: LakeConfig, split_bytes: int = 1 << 20, columns: ColumnsConfig = COLUMNS
) -> tuple[list[tuple[str, RawRecord]], dict[str, FileFault]]:
    fs, _ = filesystem(location, lake)
    records: list[tuple[str, RawRecord]] = []
    faults: dict[str, FileFault] = {}
    for group in split_files(discover(location, "auto", None, lake), split_bytes):
        for split in group:
            for item in read_split(fs, split, columns):
                if isinstance(item, FileFault):
                    faults[split.file.name] = item
                else:
                    records.append((split.file.name, item))
    return records, faults


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


ROWS: list[dict[str, Any]] = [{"doc_id": f"d{n}", "text": "word " * (n % 50), "n": n} for n in range(3000)]


def test_every_format_and_compression_gives_the_same_records(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "b.jsonl.gz").write_bytes(
        gzip.compress(lines(ROWS[:1000])) + gzip.compress(lines(ROWS[1000:]))
    )
    (tmp_path / "c.ndjson.zst").write_bytes(pa.compress(lines(ROWS), codec="zstd", asbytes=True))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet", row_group_size=500)
    records, faults = read(tmp_path)
    assert not faults
    for name in ("a.jsonl", "b.jsonl.gz", "c.ndjson.zst", "d.parquet"):
        got = [(r.id, r.text, r.metadata) for file, r in records if file == name]
        texts = [row["text"].encode() if name == "d.parquet" else row["text"] for row in ROWS]
        ids = [row["doc_id"].encode() if name == "d.parquet" else row["doc_id"] for row in ROWS]
        assert got == [(i, t, {"n": row["n"]}) for i, t, row in zip(ids, texts, ROWS, strict=True)], name


@given(
    contents=st.lists(st.text(alphabet="ab\u00e9 ", max_size=30), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 2000), max_size=6),
    final_newline=st.booleans(),
)
def test_wherever_a_jsonl_file_is_cut_each_line_is_read_once(
    tmp_path_factory: pytest.TempPathFactory, contents: list[str], cuts: list[int], final_newline: bool
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    data = lines([{"doc_id": str(n), "text": text} for n, text in enumerate(contents)])
    data = data if final_newline else data[:-1]
    path = folder / "a.jsonl"
    path.write_bytes(data)
    file = InputFile(str(path), str(path), "a.jsonl", "jsonl", "", len(data), "s")
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    fs, _ = filesystem(str(folder), LakeConfig(dir=folder / "lake"))
    got: list[Any] = []
    positions: list[int] = []
    for start, end in pairwise(edges):
        for item in read_split(fs, Split(file, start, end), COLUMNS):
            assert isinstance(item, RawRecord)
            got.append(item.text)
            positions.append(item.position)
    assert got == contents
    assert [data[at : at + 1] for at in positions] == [b"{"] * len(contents)


def test_wherever_a_parquet_file_is_cut_each_row_is_read_once(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=100)
    records, faults = read(tmp_path, split_bytes=2000)
    assert not faults
    assert sorted(record.position for _, record in records) == list(range(3000))
    by_position = {record.position: record.id for _, record in records}
    assert all(by_position[n] == f"d{n}".encode() for n in range(3000))


def test_a_truncated_file_gives_what_comes_before_the_cut_and_says_so(tmp_path: Path) -> None:
    data = lines([{"doc_id": f"d{n}", "text": f"{n * 7919:x} " * 40} for n in range(20_000)])
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data)[:-5000])
    (tmp_path / "b.jsonl.zst").write_bytes(pa.compress(data, codec="zstd", asbytes=True)[:-5000])
    records, faults = read(tmp_path)
    assert {name: fault.reason for name, fault in faults.items()} == {
        "a.jsonl.gz": "corrupt_file",
        "b.jsonl.zst": "corrupt_file",
    }
    for name in faults:
        read_ids = [record.id for file, record in records if file == name]
        assert 1000 < len(read_ids) < 20_000
        assert read_ids == [f"d{n}" for n in range(len(read_ids))]


def test_one_corrupt_parquet_file_does_not_hide_the_good_ones(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "good.parquet", compression="snappy")
    (tmp_path / "junk.parquet").write_bytes(b"PAR1 this is no Parquet file PAR1")
    (tmp_path / "empty.parquet").write_bytes(b"")
    damaged = bytearray((tmp_path / "good.parquet").read_bytes())
    damaged[200:260] = bytes(60)
    (tmp_path / "damaged.parquet").write_bytes(damaged)
    records, faults = read(tmp_path)
    assert sum(file == "good.parquet" for file, _ in records) == 3000
    assert {name: fault.reason for name, fault in faults.items()} == dict.fromkeys(
        ("junk.parquet", "empty.parquet", "damaged.parquet"), "corrupt_file"
    )


def test_a_file_without_the_text_column_is_a_fault_that_names_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"doc_id": ["a"], "body": ["b"]}), tmp_path / "a.parquet")
    _, faults = read(tmp_path)
    assert faults["a.parquet"] == FileFault("missing_column", "the file has no column 'text'")


def test_a_line_that_is_no_record_is_a_fault_of_its_own(tmp_path: Path) -> None:
    bad = [
        b"{not json\n",
        b"[1, 2]\n",
        b'"text"\n',
        b'{"doc_id": "x", "text": "\xff"}\n',
        b"[" * 100_000 + b"\n",
    ]
    (tmp_path / "a.jsonl").write_bytes(b"".join(bad) + b"\n" + lines(ROWS[:1]))
    records, faults = read(tmp_path)
    assert not faults
    assert [record.fault and record.fault[0] for _, record in records] == [
        "bad_json", "bad_json", "bad_json", "invalid_utf8", "bad_json", None,
    ]  # fmt: skip


def test_a_text_file_is_a_document_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.md").write_bytes("# caf\u00e9".encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"hello"))
    records, _ = read(tmp_path)
    assert [(record.id, record.text) for _, record in records] == [
        ("b.txt.gz", b"hello"),
        ("sub/a.md", "# caf\u00e9".encode()),
    ]


def test_hidden_files_markers_and_unknown_endings_are_left_out(tmp_path: Path) -> None:
    for name in ("_SUCCESS", ".part.crc", "_delta_log/0.json", "image.png", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = discover(str(tmp_path), "auto", None, LakeConfig(dir=tmp_path / "lake"))
    assert [file.name for file in found] == ["a.txt"]


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    lake = LakeConfig(dir=tmp_path / "lake")
    (tmp_path / "a.txt").write_bytes(b"x")
    assert discover(str(tmp_path), "auto", None, lake).left_out_line() == ""
    (tmp_path / "x.pdf").write_bytes(b"x")
    assert discover(str(tmp_path), "auto", None, lake).left_out_line() == "1 file left out: .pdf 1"
    for name in ("1.bin", "2.BIN", "3.bin", "y.pdf", "w.warc.wat.gz", "LICENSE", ".hidden", "_SUCCESS"):
        (tmp_path / name).write_bytes(b"x")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/not-utf8-\xff.txt"))).write_bytes(b"x")
    found = discover(str(tmp_path), "auto", None, lake)
    assert [file.name for file in found] == ["a.txt"]
    assert found.left_out == {
        ".bin": 3, ".pdf": 2, ".wat.gz": 1, "no ending": 1, "names that are not UTF-8": 1,
    }  # fmt: skip
    assert found.left_out_line().startswith("8 files left out: .bin 3, .pdf 2, ")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "there is no"),
        (lambda folder: folder.mkdir(), "is empty"),
        (lambda folder: (folder.mkdir(), (folder / "x.png").write_bytes(b"x")), r"no file to read .*\.png"),
    ],
)
def test_nothing_to_read_is_an_error_that_says_why(tmp_path: Path, make: Any, words: str) -> None:
    make(tmp_path / "in")
    kind = EmptyInputError if (tmp_path / "in").exists() else InputError
    with pytest.raises(kind, match=words):
        discover(str(tmp_path / "in"), "auto", None, LakeConfig(dir=tmp_path / "lake"))


@given(sizes=st.lists(st.integers(0, 500_000), max_size=40), split_bytes=st.integers(65_536, 200_000))
def test_splits_cover_every_byte_once_in_tasks_of_about_one_size(sizes: list[int], split_bytes: int) -> None:
    files = [
        InputFile(str(n), str(n), str(n), ("jsonl", "text")[n % 2], "", size, "s")
        for n, size in enumerate(sizes)
    ]
    groups = split_files(files, split_bytes)
    covered: dict[str, list[tuple[int, int]]] = {}
    for group in groups:
        whole = any(split.file.format == "text" for split in group)
        assert sum(split.end - split.start for split in group) <= split_bytes or len(group) == 1 or whole
        for split in group:
            covered.setdefault(split.file.path, []).append((split.start, split.end))
    for file in files:
        spans = covered[file.path]
        assert spans[0][0] == 0
        assert spans[-1][1] == file.size
        assert all(one[1] == following[0] for one, following in pairwise(spans))


@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=2000),
    split_bytes=st.integers(65_536, 64 << 20),
)
def test_of_many_small_files_each_is_in_one_task_and_no_task_has_many(
    sizes: list[int], split_bytes: int
) -> None:
    files = [InputFile(str(n), str(n), str(n), "csv", "", size, "s") for n, size in enumerate(sizes)]
    groups = split_files(files, split_bytes)
    assert [split.file for group in groups for split in group] == files
    most = max(1, split_bytes // (256 * 1024))
    assert max(map(len, groups)) <= most
    assert len(groups) <= -(-len(files) // most)


def test_20_000_tiny_files_are_157_tasks(tmp_path: Path) -> None:
    for folder in range(100):
        (tmp_path / f"f{folder}").mkdir()
        for n in range(200):
            (tmp_path / f"f{folder}" / f"{n}.jsonl").touch()
    files = discover(str(tmp_path), "auto", None, LakeConfig(dir=tmp_path / "lake"))
    groups = split_files(files, 32 << 20)
    assert len(files) == 20_000
    assert (len(groups), max(map(len, groups))) == (157, 128)


DAMAGED = {
    "a.jsonl": lines(ROWS[:300]),
    "a.jsonl.gz": gzip.compress(lines(ROWS[:300])),
    "a.csv": b"doc_id,text\n" + b"".join(b'%d,"a ""word"" or\ntwo"\n' % n for n in range(300)),
    "a.csv.gz": gzip.compress(b"doc_id,text\n" + b"".join(b"%d,some words\n" % n for n in range(300))),
    "a.warc": b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: 5\r\n\r\nhello\r\n\r\n" * 50,
    "a.warc.gz": gzip.compress(b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: 2\r\n\r\nhi\r\n\r\n")
    * 50,
    "a.txt.zst": pa.compress(b"hello " * 500, codec="zstd", asbytes=True),
}


def parquet_bytes(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    nested = [row | {"tags": [row["doc_id"]], "of": {"a": row["text"]}} for row in rows]
    pq.write_table(pa.Table.from_pylist(nested), sink, row_group_size=100)
    data: bytes = sink.getvalue().to_pybytes()
    return data


DAMAGED["a.parquet"] = parquet_bytes(ROWS[:300])


@given(
    name=st.sampled_from(sorted(DAMAGED)),
    at=st.integers(0, 1 << 20),
    junk=st.binary(max_size=40),
    cut=st.booleans(),
)
def test_whatever_is_damaged_a_file_ends_in_records_and_faults_and_not_in_an_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, at: int, junk: bytes, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    data = DAMAGED[name]
    at %= len(data)
    (folder / name).write_bytes(data[:at] + junk + (b"" if cut else data[at + len(junk) :]))
    records, faults = read(folder)
    assert records or faults or at < 100
