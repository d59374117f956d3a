"""Ranges of a data file's rows: as if the whole file had been read and cut."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyiceberg.table import Table
from pyiceberg.types import StringType

from pipelines.errors import CommitError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import ParquetLayout, write_data_file
from pipelines.lake.scan import ScanFile, scan_files
from pipelines.lake.slices import read_slice
from tests.embed.deletes import delete_positions
from tests.lake.samples import embeddings, opened, rejects

_ROWS = 20
_KEYS = [f"{number:02d}" for number in range(_ROWS)]


def _append(lake: Lake, keys: Sequence[str], group: int = 16_384) -> ScanFile:
    table = lake.table("rejects")
    file = write_data_file(table, rejects(keys), "test", ParquetLayout(row_group_rows=group))
    append_files(table, [file], {})
    return next(found for found in scan_files(lake.table("rejects")) if found.path == file.path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, ScanFile]:
    """A file of four row groups: of 6, 6, 6 and 2 rows."""
    lake = opened(LakeConfig(dir=tmp_path_factory.mktemp("lake"), buckets=2))
    file = _append(lake, _KEYS, group=6)
    with lake.table("rejects").io.new_input(file.path).open() as stream:
        assert pq.ParquetFile(stream).num_row_groups == 4
    return lake.table("rejects"), file


@pytest.fixture(scope="module")
def deleted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, ScanFile]:
    """The same with every third row deleted, and by another file of deletes the last one."""
    lake = opened(LakeConfig(dir=tmp_path_factory.mktemp("lake"), buckets=2))
    file, other = _append(lake, _KEYS, group=6), _append(lake, ["x", "y"])
    delete_positions(lake, "rejects", file.path, list(range(0, _ROWS, 3)))
    delete_positions(lake, "rejects", file.path, [_ROWS - 1])
    delete_positions(lake, "rejects", other.path, [1])
    table = lake.table("rejects")
    deletes = {path for found in scan_files(table) for path in found.deletes}
    assert len(deletes) == 3
    # With every file of deletes that may name it: the other file's as well.
    return table, ScanFile(file.path, file.partition, file.spec_id, file.rows, tuple(sorted(deletes)))


_ends = st.tuples(st.integers(0, _ROWS + 3), st.integers(0, _ROWS + 3)).map(lambda pair: tuple(sorted(pair)))


@given(_ends)
@example((0, _ROWS))
@example((6, 12))
@example((_ROWS, _ROWS + 3))
def test_any_range_is_as_if_cut_from_the_whole(whole: tuple[Table, ScanFile], ends: tuple[int, int]) -> None:
    rows, positions = read_slice(*whole, *ends, ["key"])
    assert rows.column("key").to_pylist() == _KEYS[slice(*ends)]
    assert positions.tolist() == list(range(_ROWS))[slice(*ends)]


@given(_ends)
def test_deleted_rows_are_left_out_and_the_others_keep_their_positions(
    deleted: tuple[Table, ScanFile], ends: tuple[int, int]
) -> None:
    live = [number for number in range(*ends) if number < _ROWS - 1 and number % 3]
    rows, positions = read_slice(*deleted, *ends, ["key"])
    assert positions.tolist() == live
    assert rows.column("key").to_pylist() == [_KEYS[number] for number in live]


def test_only_the_row_groups_of_a_range_are_read(
    whole: tuple[Table, ScanFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[int]] = []
    original = pq.ParquetFile.read_row_groups

    def noted(self: pq.ParquetFile, groups: list[int], columns: list[str]) -> pa.Table:
        read.append(groups)
        return original(self, groups, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noted)
    for ends in ((0, 6), (5, 7), (12, 13), (13, 20)):
        read_slice(*whole, *ends, ["key"])
    assert read == [[0], [0, 1], [2], [2, 3]]


def test_columns_come_in_the_order_and_with_the_types_of_the_table(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    table = lake.table("embeddings")
    made = embeddings(["c", "a", "b"])
    file = write_data_file(table, made, "test")
    scan = ScanFile(file.path, file.partition, file.spec_id, file.rows)
    rows, _ = read_slice(table, scan, 1, 3, ["unit", "embedding", "chunk_id"])
    assert rows.to_pylist() == made.select(["unit", "embedding", "chunk_id"]).slice(1).to_pylist()
    empty, positions = read_slice(table, scan, 2, 2, ["unit", "embedding", "chunk_id"])
    assert (empty.schema, empty.num_rows, len(positions)) == (rows.schema, 0, 0)


def test_a_renamed_column_is_found_by_its_id_and_not_by_its_name(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    file = _append(lake, ["a", "b"])
    with lake.table("rejects").update_schema() as update:
        update.rename_column("detail", "told")
        update.rename_column("key", "name")
    with lake.table("rejects").update_schema() as update:
        update.rename_column("told", "key")  # what is called key now was called detail in the file
    rows, _ = read_slice(lake.table("rejects"), file, 0, 2, ["key", "name"])
    assert rows.to_pylist() == [{"key": None, "name": "a"}, {"key": None, "name": "b"}]


def test_a_column_that_the_file_lacks_is_a_commit_error(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    file = _append(lake, ["a"])
    with lake.table("rejects").update_schema() as update:
        update.add_column("shelf", StringType())
    with pytest.raises(CommitError, match=r"has no column 'shelf'") as caught:
        read_slice(lake.table("rejects"), file, 0, 1, ["key", "shelf"])
    assert file.path in str(caught.value)


def test_a_file_that_is_gone_is_told_as_that(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    file = _append(lake, ["a"])
    assert read_slice(lake.table("rejects"), file, 0, 1, ["key"])[0].num_rows == 1
    lake.table("rejects").io.delete(file.path)
    with pytest.raises(FileNotFoundError):
        read_slice(lake.table("rejects"), file, 0, 1, ["key"])
