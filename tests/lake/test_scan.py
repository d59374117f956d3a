import pickle

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.typedef import Record

from pipelines.errors import CommitError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import ParquetLayout, write_data_file
from pipelines.lake.filters import all_of, equals, is_one_of, starts_with
from pipelines.lake.live import LiveFiles
from pipelines.lake.scan import ScanFile, partition_values, read_batches, read_file, scan_files
from tests.embed.deletes import _AppendDeletes, delete_positions
from tests.lake.samples import VECTORS, embeddings, opened, rejects, written


def append(lake: Lake, rows: pa.Table, name: str = "rejects", group: int = 16_384) -> ScanFile:
    layout = ParquetLayout(VECTORS.vector_columns if name == "embeddings" else (), group)
    file = write_data_file(lake.table(name), rows, "test", layout)
    append_files(lake.table(name), [file], {})
    return next(found for found in scan_files(lake.table(name)) if found.path == file.path)


def keys(table: pa.Table) -> list[str]:
    found: list[str] = table["key"].to_pylist()
    return found


def test_every_live_file_is_told_with_its_partition_and_rows(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    one = append(lake, embeddings(["a", "b"], doc_id="doc"), "embeddings")
    two = append(lake, embeddings(["c"], source="manual", model="n@2"), "embeddings")
    assert (one.rows, one.partition[:2], one.deletes) == (2, ("m@1", "notes"), ())
    assert (two.rows, two.partition[:2]) == (1, ("n@2", "manual"))
    assert {file.path for file in scan_files(lake.table("embeddings"))} == {one.path, two.path}


def test_an_older_snapshot_has_the_files_that_were_live_then(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    one = append(lake, rejects(["a"], "read"))
    then = lake.table("rejects").current_snapshot()
    assert then is not None
    two = append(lake, rejects(["z"], "read"))
    table = lake.table("rejects")
    assert scan_files(table, snapshot_id=then.snapshot_id) == [one]
    assert {file.path for file in scan_files(table)} == {one.path, two.path}


def test_files_that_cannot_hold_a_row_of_the_filter_are_left_out(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    read, curate = append(lake, rejects(["a"], "read")), append(lake, rejects(["z"], "curate"))
    table = lake.table("rejects")
    assert scan_files(table, equals("stage", "read")) == [read]
    assert scan_files(table, starts_with("key", "z")) == [curate]  # by statistics
    assert scan_files(table, is_one_of("stage", ["embed"])) == []
    assert scan_files(table, all_of(equals("stage", "read"), equals("key", "z"))) == []


def test_a_file_is_read_in_its_order_with_the_columns_in_the_order_asked_for(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    rows = embeddings(["c", "a", "b"])
    file = append(lake, rows, "embeddings")
    found = read_file(lake.table("embeddings"), file, ["unit", "embedding", "chunk_id"])
    assert found.column_names == ["unit", "embedding", "chunk_id"]
    assert found.to_pylist() == rows.select(["unit", "embedding", "chunk_id"]).to_pylist()


def test_only_rows_of_the_filter_are_read_whatever_columns_are_asked_for(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    file = append(lake, rejects(["a", "b", "c"]))
    table = lake.table("rejects")
    found = read_file(table, file, ["reason", "stage"], is_one_of("key", ["a", "c"]))
    assert found.to_pylist() == [{"reason": "empty_text", "stage": "curate"}] * 2
    assert keys(read_file(table, file, ["key"], all_of(equals("stage", "curate"), equals("key", "b")))) == [
        "b"
    ]


def test_a_file_without_a_row_to_read_still_has_its_columns(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    file = append(lake, rejects(["a"]))
    empty = read_file(lake.table("rejects"), file, ["stage", "key"], equals("key", "nothing"))
    assert (empty.num_rows, empty.column_names) == (0, ["stage", "key"])


def test_columns_have_one_type_whether_rows_are_left_or_not(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    file = append(lake, rejects(["a"]))
    whole = read_file(lake.table("rejects"), file, ["stage", "key"])
    empty = read_file(lake.table("rejects"), file, ["stage", "key"], equals("key", "nothing"))
    assert pa.concat_tables([whole, empty]).num_rows == 1


def test_deleted_rows_are_left_out_and_the_others_keep_their_order(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    file, other = append(lake, rejects(list("abcdef"))), append(lake, rejects(["z"]))
    delete_positions(lake, "rejects", file.path, [0, 3])
    delete_positions(lake, "rejects", file.path, [5])
    table = lake.table("rejects")
    found = {scan.path: scan for scan in scan_files(table)}
    assert len(found[file.path].deletes) == 2
    assert found[file.path].rows == 6
    assert keys(read_file(table, found[file.path], ["key"])) == ["b", "c", "e"]
    assert keys(read_file(table, found[other.path], ["key"])) == ["z"]
    assert keys(read_file(table, file, ["key"])) == list("abcdef")  # as it was told before the deletes


@pytest.fixture(scope="module")
def deleted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, ScanFile]:
    """A file of several row groups, every third of whose rows are deleted."""
    lake = opened(LakeConfig(dir=tmp_path_factory.mktemp("lake"), buckets=2))
    file = append(lake, rejects([f"{number:02d}" for number in range(20)]), group=6)
    delete_positions(lake, "rejects", file.path, list(range(0, 20, 3)))
    return lake.table("rejects"), scan_files(lake.table("rejects"))[0]


@given(st.sets(st.integers(0, 25)))
def test_filter_and_deletes_leave_exactly_the_rows_that_pass_both(
    deleted: tuple[Table, ScanFile], wanted: set[int]
) -> None:
    table, file = deleted
    where = is_one_of("key", [f"{number:02d}" for number in wanted] or ["none"])
    expected = [f"{number:02d}" for number in range(20) if number in wanted and number % 3]
    assert keys(read_file(table, file, ["key"], where)) == expected


def test_batches_together_are_the_file(deleted: tuple[Table, ScanFile]) -> None:
    table, file = deleted
    batches = list(read_batches(table, file, ["key"]))
    assert [key for batch in batches for key in batch.column("key").to_pylist()] == [
        f"{number:02d}" for number in range(20) if number % 3
    ]


def test_what_was_told_of_a_file_crosses_processes(deleted: tuple[Table, ScanFile]) -> None:
    table, file = deleted
    other = pickle.loads(pickle.dumps(file))
    assert other == file
    assert read_file(table, other, ["key"]).equals(read_file(table, file, ["key"]))


def test_a_renamed_column_is_found_in_files_written_before(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    file = append(lake, rejects(["a"]))
    with lake.table("rejects").update_schema() as update:
        update.rename_column("reason", "why")
    found = read_file(lake.table("rejects"), file, ["why", "key"])
    assert found.to_pylist() == [{"why": "empty_text", "key": "a"}]


def test_a_column_added_later_is_null_in_files_written_before(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    file = append(lake, rejects(["a"]))
    with lake.table("rejects").update_schema() as update:
        update.add_column("more", lake.table("rejects").schema().find_field("key").field_type)
    assert read_file(lake.table("rejects"), file, ["key", "more"]).to_pylist() == [{"key": "a", "more": None}]


def test_a_file_told_by_a_manifest_is_the_file_told_by_a_scan(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    scanned = append(lake, embeddings(["a"]), "embeddings")
    [told] = LiveFiles(
        lambda file: ScanFile(file.file_path, partition_values(file), file.spec_id, file.record_count)
    ).of(lake.table("embeddings"))
    assert told == scanned


def test_equality_deletes_are_refused_with_the_way_to_mend_it(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    append_files(lake.table("rejects"), [written(lake.table("rejects"), ["a"])], {})
    table = lake.table("rejects")
    deletes = DataFile.from_args(
        content=DataFileContent.EQUALITY_DELETES,
        file_path=f"{table.location()}/data/equality.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record("curate"),
        record_count=1,
        file_size_in_bytes=1,
        equality_ids=[table.schema().find_field("key").field_id],
    )
    deletes.spec_id = table.spec().spec_id
    with table.transaction() as transaction:
        append = _AppendDeletes(Operation.APPEND, transaction, table.io)
        append.deletes = deletes
        append.commit()
    with pytest.raises(CommitError, match="rejects holds equality deletes") as caught:
        scan_files(lake.table("rejects"))
    assert "rewrite_data_files" in caught.value.hint
