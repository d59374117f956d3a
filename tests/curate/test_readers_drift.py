"""Files of one input that differ in their columns: a fault or an absent key, never a null in silence."""

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.curate.config import ColumnsConfig
from pipelines.curate.read.discover import discover, filesystem, split_files
from pipelines.curate.read.partitions import drifts
from pipelines.curate.read.readers import FileFault, read_split
from pipelines.lake import LakeConfig
from tests.curate.test_readers import read

ROW = {"doc_id": "a", "text": "x"}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (ColumnsConfig(metadata=("lang",)), "lang"),
        (ColumnsConfig(source="lang"), "lang"),
        (ColumnsConfig(source="source"), "source"),
        (ColumnsConfig(arrival="lang"), "lang"),
    ],
)
def test_a_file_without_a_column_that_was_asked_for_is_rejected(
    tmp_path: Path, ending: str, columns: ColumnsConfig, name: str
) -> None:
    write(tmp_path / f"a.{ending}", [ROW])
    write(tmp_path / f"b.{ending}", [ROW | {name: "2026-01-01"}])
    # The columns travel to Spark's workers, and what the user named must arrive there.
    records, faults = read(tmp_path, columns=pickle.loads(pickle.dumps(columns)))
    assert faults == {f"a.{ending}": FileFault("missing_column", f"the file has no column '{name}'")}
    assert [file for file, _ in records] == [f"b.{ending}"]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_what_was_not_asked_for_may_be_absent_and_is_then_no_key(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"a.{ending}", [ROW])
    write(tmp_path / f"b.{ending}", [ROW | {"lang": "en", "source": "web"}])
    records, faults = read(tmp_path)
    assert not faults
    web, en = (b"web", b"en") if ending == "parquet" else ("web", "en")
    assert [(r.source, r.metadata) for _, r in records] == [(None, {}), (web, {"lang": en})]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_a_large_file_without_a_column_is_one_fault_though_it_is_read_in_parts(
    tmp_path: Path, name: str
) -> None:
    rows = [ROW | {"n": n} for n in range(3000)]
    if name == "a.jsonl":
        write(tmp_path / name, rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name, row_group_size=100)
    lake = LakeConfig(dir=tmp_path / "lake")
    fs, _ = filesystem(str(tmp_path), lake)
    groups = split_files(discover(str(tmp_path), "auto", None, lake), 3000)
    assert len(groups) > 3
    columns = ColumnsConfig(metadata=("lang",))
    items = [item for group in groups for split in group for item in read_split(fs, split, columns)]
    assert items == [FileFault("missing_column", "the file has no column 'lang'")]


def test_in_json_lines_a_column_may_be_absent_from_some_records(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [ROW, ROW | {"lang": "en"}, ROW | {"lang": None}])
    with (tmp_path / "a.jsonl").open("a") as stream:
        stream.write("{no json\n")
    records, faults = read(tmp_path, columns=ColumnsConfig(metadata=("lang",)))
    assert not faults
    assert [r.metadata for _, r in records if not r.fault] == [{}, {"lang": "en"}, {"lang": None}]


def test_a_text_column_that_is_a_number_in_one_file_is_no_string_there(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [ROW])
    write(tmp_path / "b.parquet", [{"doc_id": "b", "text": 7}])
    write(tmp_path / "c.jsonl", [{"doc_id": "c", "text": 7}, {"doc_id": "d", "text": "y"}])
    records, faults = read(tmp_path)
    assert not faults
    assert [r.text for _, r in records] == [b"x", 7, 7, "y"]


def test_ids_keep_their_spelling_whatever_their_type(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [{"doc_id": 7, "text": "x"}])
    write(tmp_path / "b.parquet", [{"doc_id": "007", "text": "x"}])
    write(tmp_path / "c.csv", [{"doc_id": "007", "text": "x"}])
    assert [r.id for _, r in read(tmp_path)[0]] == [7, b"007", "007"]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "txt"])
def test_a_stray_file_beside_partition_folders_is_rejected(tmp_path: Path, ending: str) -> None:
    for lang in ("en", "de"):
        write(tmp_path / f"lang={lang}" / f"a.{ending}", [ROW])
    write(tmp_path / f"stray.{ending}", [ROW])
    records, faults = read(tmp_path, split_bytes=100)
    assert len(records) == 2
    assert faults == {
        f"stray.{ending}": FileFault(
            "partition_drift",
            "its folders name no partition column, those of 2 of 3 files name lang",
        )
    }


def test_a_stray_partition_folder_is_rejected_and_not_the_thousand_files_beside_it(tmp_path: Path) -> None:
    for n in range(20):
        write(tmp_path / f"{n}.jsonl", [ROW])
    write(tmp_path / "old=yes" / "of=x" / "a.jsonl", [ROW])
    records, faults = read(tmp_path)
    assert len(records) == 20
    assert {name: fault.reason for name, fault in faults.items()} == {
        "old=yes/of=x/a.jsonl": "partition_drift"
    }


def test_the_order_of_the_folders_is_no_drift(tmp_path: Path) -> None:
    write(tmp_path / "a=1" / "b=2" / "x.jsonl", [ROW])
    write(tmp_path / "b=2" / "a=1" / "x.jsonl", [ROW])
    records, faults = read(tmp_path)
    assert not faults
    assert [r.metadata for _, r in records] == [{"a": "1", "b": "2"}] * 2


def test_of_two_layouts_that_are_as_many_the_one_with_more_columns_counts(tmp_path: Path) -> None:
    write(tmp_path / "lang=en" / "a.jsonl", [ROW])
    write(tmp_path / "stray.jsonl", [ROW])
    assert list(read(tmp_path)[1]) == ["stray.jsonl"]


@given(st.lists(st.sets(st.sampled_from("abc"), max_size=2).map(frozenset), max_size=12))
def test_the_files_without_drift_have_one_set_of_partition_columns_and_are_the_most(
    keys: list[frozenset[str]],
) -> None:
    odd = drifts([tuple((key, "1") for key in sorted(names)) for names in keys])
    usual = {names for names, drift in zip(keys, odd, strict=True) if not drift}
    assert len(usual) == min(1, len(keys))
    assert {names for names, drift in zip(keys, odd, strict=True) if drift}.isdisjoint(usual)
    assert all(keys.count(names) <= keys.count(next(iter(usual))) for names in keys)
