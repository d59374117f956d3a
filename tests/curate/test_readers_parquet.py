"""Parquet as it comes: shards of data sets, every type of column, partition folders."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read.discover import discover, filesystem
from pipelines.curate.read.partitions import partition_of
from pipelines.curate.read.readers import FileFault, columns_of
from pipelines.lake import LakeConfig
from tests.curate.test_readers import read

TEXTS = ["one", None, "zwei \u00e9", "", "one"]


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = len(next(iter(columns.values())))
    table = pa.table({"doc_id": [f"{path.stem}-{n}" for n in range(rows)]} | columns)
    pq.write_table(table, path)
    return path


def test_shards_in_nested_folders_are_one_input_and_the_data_sets_card_is_no_document(tmp_path: Path) -> None:
    for config in ("en", "de"):
        for n in range(3):
            write(tmp_path / config / f"train-{n:05}-of-00003.parquet", text=["a", "b"])
    for name in ("README.md", "en/dataset_info.json", ".gitattributes", "en/state.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "notes.md").write_text("a text of its own")
    records, faults = read(tmp_path)
    assert not faults
    assert len(records) == 13
    assert {name for name, _ in records if not name.endswith(".parquet")} == {"notes.md"}
    found = discover(str(tmp_path), "auto", None, LakeConfig(dir=tmp_path / "lake"))
    assert found.left_out == {"README.md": 1, "dataset_info.json": 1, "state.json": 1}


def test_beside_text_files_a_readme_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("hello")
    assert [name for name, _ in read(tmp_path)[0]] == ["README.md"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
        pa.binary(),
    ],
    ids=str,
)
def test_texts_ids_and_metadata_are_read_from_every_type_of_string(tmp_path: Path, kind: pa.DataType) -> None:
    plain = kind if pa.types.is_binary(kind) else pa.string()
    array = pa.array(TEXTS, plain)
    array = array.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else array.cast(kind)
    table = pa.table({"doc_id": array, "text": array, "source": array, "lang": array})
    pq.write_table(table, tmp_path / "a.parquet")
    records, faults = read(tmp_path)
    assert not faults
    encoded = [None if text is None else text.encode() for text in TEXTS]
    for got in (
        [r.id for _, r in records],
        [r.text for _, r in records],
        [r.source for _, r in records],
        [(r.metadata or {})["lang"] for _, r in records],
    ):
        assert got == encoded


def test_structs_and_lists_are_metadata(tmp_path: Path) -> None:
    tags = [["a", "b"], [], None]
    meta = [{"url": "u", "at": {"n": 1}}, None, {"url": None, "at": None}]
    write(tmp_path / "a.parquet", text=["x", "y", "z"], tags=tags, meta=meta)
    records, faults = read(tmp_path)
    assert not faults
    assert [r.metadata for _, r in records] == [
        {"tags": tag, "meta": of} for tag, of in zip(tags, meta, strict=True)
    ]
    json.dumps([r.metadata for _, r in records])


def test_invalid_utf8_is_the_fault_of_its_value_at_any_depth(tmp_path: Path) -> None:
    bad = pa.array([b"fine", b"\xff"]).view(pa.string())
    listed = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), bad)
    within = pa.StructArray.from_arrays([listed], ["words"])
    write(tmp_path / "a.parquet", text=bad, of=within)
    records, faults = read(tmp_path)
    assert not faults
    assert [(r.text, r.metadata) for _, r in records] == [
        (b"fine", {"of": {"words": ["fine"]}}),
        (b"\xff", {"of": {"words": ["\ufffd"]}}),
    ]


def test_times_beyond_the_calendar_do_not_end_the_file(tmp_path: Path) -> None:
    far = pa.array([0, 2**62], pa.timestamp("us"))
    write(tmp_path / "a.parquet", text=["x", "y"], at=far)
    records, faults = read(tmp_path)
    assert not faults
    early, late = [(r.metadata or {})["at"] for _, r in records]
    assert str(early).startswith("1970-01-01")
    assert str(2**62) in str(late)


def test_the_nameless_index_of_pandas_is_no_metadata_but_a_named_one_is(tmp_path: Path) -> None:
    frame = pd.DataFrame({"doc_id": ["a", "b"], "text": ["x", "y"]}, index=[7, 9])
    frame.to_parquet(tmp_path / "a.parquet")
    frame.rename_axis("line").to_parquet(tmp_path / "b.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "a.parquet").names
    records, _ = read(tmp_path)
    assert [r.metadata for _, r in records] == [{}, {}, {"line": 7}, {"line": 9}]
    columns = ColumnsConfig(id="__index_level_0__", text="text")
    assert [r.id for name, r in read(tmp_path, columns=columns)[0] if name == "a.parquet"] == [7, 9]


def test_a_column_that_is_there_twice_is_a_fault(tmp_path: Path) -> None:
    twice = pa.table([["a"], ["x"], ["y"]], names=["doc_id", "text", "text"])
    pq.write_table(twice, tmp_path / "a.parquet")
    assert read(tmp_path)[1] == {
        "a.parquet": FileFault("duplicate_column", "the file has several columns 'text'")
    }


def test_the_columns_of_the_folders_are_the_records_own(tmp_path: Path) -> None:
    folder = tmp_path / "lang=en%2FUS" / "date=2026-01-01" / "source=books"
    write(folder / "part-0.parquet", text=["x"], n=[1])
    write(
        tmp_path / "lang=" / "date=__HIVE_DEFAULT_PARTITION__" / "source=web" / "part-0.parquet", text=["y"]
    )
    records, faults = read(tmp_path)
    assert not faults
    assert [(r.text, r.source, r.metadata) for _, r in records] == [
        (b"x", "books", {"n": 1, "lang": "en/US", "date": "2026-01-01"}),
        (b"y", "web", {"lang": "", "date": None}),
    ][::-1]


def test_id_and_source_may_be_partition_columns_of_any_format(tmp_path: Path) -> None:
    columns = ColumnsConfig(id="key", text="text", source="site")
    folder = tmp_path / "key=k" / "site=s"
    write(folder / "a.parquet", text=["x"])
    (folder / "b.csv").write_text("n,text\n1,x\n")
    (folder / "c.jsonl").write_text('{"text": "x", "site": "in the file"}\n')
    (folder / "d.txt").write_text("x")
    records, faults = read(tmp_path, columns=columns)
    assert not faults
    assert [(r.id, r.source) for name, r in records if not name.endswith("d.txt")] == [("k", "s")] * 3
    assert [(r.id, r.source) for name, r in records if name.endswith("d.txt")] == [
        ("key=k/site=s/d.txt", "s")
    ]


def test_a_partition_column_counts_before_one_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "lang=en" / "a.parquet", text=["x"], lang=["fr"])
    records, _ = read(tmp_path)
    assert records[0][1].metadata == {"lang": "en"}


def test_the_columns_of_a_file_are_told_with_those_of_its_folders(tmp_path: Path) -> None:
    lake = LakeConfig(dir=tmp_path / "lake")
    write(tmp_path / "lang=en" / "a.parquet", text=["x"])
    fs, _ = filesystem(str(tmp_path), lake)
    (file,) = discover(str(tmp_path), "auto", None, lake)
    assert columns_of(fs, file) == ["doc_id", "text", "lang"]


KEYS = st.text(min_size=1, max_size=8)


@given(values=st.dictionaries(KEYS, st.none() | st.text(max_size=12), max_size=4))
def test_partition_folders_are_read_as_spark_and_delta_write_them(values: dict[str, str | None]) -> None:
    def escaped(text: str) -> str:
        return "".join(
            f"%{byte:02X}" if byte in b'%/=:#?\\"*' or byte < 32 else chr(byte) for byte in text.encode()
        )

    folders = [
        f"{escaped(key)}=" + ("__HIVE_DEFAULT_PARTITION__" if value is None else escaped(value))
        for key, value in values.items()
    ]
    # Non-ASCII characters stay as they are in folder names.
    name = "/".join([*folders, "part-0.parquet"]).encode("latin-1").decode("utf-8")
    assert dict(partition_of(name)) == values


def test_what_is_no_partition_folder_gives_no_column() -> None:
    assert partition_of("a/=b/c/d=1.parquet") == ()
    assert partition_of("lang=en/lang=de/x") == (("lang", "de"),)
    assert partition_of("q=a=b/x") == (("q", "a=b"),)


def test_timestamps_of_pandas_keep_their_value(tmp_path: Path) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5)
    write(tmp_path / "a.parquet", text=["x"], at=pa.array([at], pa.timestamp("ns")))
    assert read(tmp_path)[0][0][1].metadata == {"at": at}
