import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyiceberg.conversions import from_bytes
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from pipelines.errors import CommitError
from pipelines.lake import LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import ParquetLayout, derive_partition, describe_data_file, write_data_file
from pipelines.lake.filters import all_of, equals
from tests.lake.samples import VECTORS, embeddings, foreign, opened, rejects, with_column, written

BUCKET = BucketTransform(2).transform(StringType())


@pytest.fixture(scope="module")
def local_table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The embeddings of one local lake, in which no test leaves a row."""
    return opened(LakeConfig(dir=tmp_path_factory.mktemp("lake"), buckets=2)).table("embeddings")


def data_files(table: Table) -> list[Path]:
    return [
        path for path in Path(table.location().removeprefix("file://"), "data").rglob("*") if path.is_file()
    ]


def test_what_is_written_and_committed_is_what_a_reader_finds(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    rows = embeddings(["a", "b", "c"])
    file = write_data_file(lake.table("embeddings"), rows, "unit", VECTORS)
    append_files(lake.table("embeddings"), [file], {})
    found = lake.table("embeddings").scan().to_arrow()
    assert found.select(rows.column_names).to_pylist() == rows.to_pylist()
    assert (file.rows, file.partition) == (3, ("m@1", "notes", BUCKET("doc")))


def test_an_uncommitted_file_is_seen_by_no_reader(local_config: LakeConfig) -> None:
    lake = opened(local_config)
    table = lake.table("rejects")
    before = table.metadata_location
    written(table, ["a"])
    assert len(data_files(table)) == 1
    assert lake.table("rejects").metadata_location == before
    assert lake.table("rejects").scan().count() == 0


def test_a_file_is_described_as_it_was_described_when_written(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    for file in (
        write_data_file(lake.table("embeddings"), embeddings(["a", "b"]), "unit", VECTORS),
        write_data_file(lake.table("embeddings"), embeddings(["a"]), "unit"),
    ):
        assert describe_data_file(lake.table("embeddings"), file.path) == file
    file = written(lake.table("rejects"), ["a", "b"], stage="read")
    assert describe_data_file(lake.table("rejects"), file.path) == file


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(doc_id=names, source=names, model=names)
@example(doc_id="a/b", source="c=d&e%2F", model="m@1 ü\n")
def test_the_partition_is_that_of_the_rows_and_a_reader_who_prunes_by_it_finds_them(
    doc_id: str, source: str, model: str, local_config: LakeConfig
) -> None:
    lake = opened(local_config)
    table = lake.table("embeddings")
    file = write_data_file(table, embeddings(["a", "b"], doc_id, model, source), "unit", VECTORS)
    assert file.partition == (model, source, BUCKET(doc_id))
    append_files(table, [file], {})
    where = all_of(equals("model", model), equals("source", source), equals("doc_id", doc_id))
    found = lake.table("embeddings").scan(row_filter=where).plan_files()
    assert file.path in {task.file.file_path for task in found}


@given(st.lists(names, min_size=1, max_size=6))
def test_rows_pass_only_if_all_are_of_one_partition(local_table: Table, doc_ids: list[str]) -> None:
    rows = pa.concat_tables([embeddings(["a"], doc_id) for doc_id in doc_ids])
    buckets = {BUCKET(doc_id) for doc_id in doc_ids}
    if len(buckets) == 1:
        assert derive_partition(local_table, rows) == ("m@1", "notes", *buckets)
    else:
        with pytest.raises(CommitError, match=r"must share one partition, but 'doc_bucket' has 2 values"):
            derive_partition(local_table, rows)


@pytest.mark.parametrize(
    "other",
    [{"model": "n@2"}, {"source": "manual"}, {"doc_id": "doc-1"}, {"model": "n@2", "source": "manual"}],
)
def test_rows_of_two_partitions_are_refused_and_no_file_is_left(
    local_config: LakeConfig, other: dict[str, str]
) -> None:
    assert BUCKET("doc") != BUCKET("doc-1")
    table = opened(local_config).table("embeddings")
    rows = pa.concat_tables([embeddings(["a"]), embeddings(["b"], **other)])
    with pytest.raises(CommitError, match="must share one partition"):
        write_data_file(table, rows, "unit", VECTORS)
    assert data_files(table) == []


Change = Callable[[pa.Table], pa.Table]
CHANGES: dict[str, tuple[Change, str]] = {
    "no rows": (lambda rows: rows.slice(0, 0), "needs at least one row"),
    "a missing column": (lambda rows: rows.drop_columns(["unit"]), "lack the columns unit"),
    "a null key": (
        lambda rows: with_column(rows, "chunk_id", pa.array(["a", None])),
        "nulls in the required column 'chunk_id'",
    ),
    "a null partition value": (
        lambda rows: with_column(rows, "doc_id", pa.array([None, None], pa.string())),
        "nulls in the required column 'doc_id'",
    ),
    "a null vector": (
        lambda rows: with_column(rows, "embedding", pa.array([[1.0], None], pa.list_(pa.float32()))),
        "nulls in the required column 'embedding'",
    ),
    "vectors of text": (
        lambda rows: with_column(rows, "embedding", pa.array([["a"], ["b"]])),
        "column 'embedding' is list<item: string>, table embeddings has",
    ),
    "a key that is no text": (
        lambda rows: with_column(rows, "chunk_id", pa.array([{"a": 1}, {"a": 2}])),
        "column 'chunk_id' is struct",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_rows_that_do_not_fit_are_refused_with_the_column_and_no_file_is_left(
    local_config: LakeConfig, name: str
) -> None:
    change, words = CHANGES[name]
    table = opened(local_config).table("embeddings")
    with pytest.raises(CommitError) as caught:
        write_data_file(table, change(embeddings(["a", "b"])), "unit", VECTORS)
    assert words in str(caught.value)
    assert data_files(table) == []


@pytest.mark.parametrize(
    "vectors",
    [
        pa.array([[0.5, 0.25], [1.0, -2.0]], pa.list_(pa.float64())),
        pa.array([[0.5, 0.25], [1.0, -2.0]], pa.list_(pa.float32(), 2)),
        pa.array([[0.5, 0.25], [1.0, -2.0]], pa.large_list(pa.float32())),
        pa.array([[0.5, 0.25], [1.0, -2.0]], pa.list_(pa.float16())),
    ],
)
def test_vectors_come_back_as_they_were_whatever_list_they_came_in(
    local_table: Table, vectors: pa.Array
) -> None:
    rows = with_column(embeddings(["a", "b"]), "embedding", vectors)
    file = write_data_file(local_table, rows, "unit", VECTORS)
    read = pq.read_table(file.path.removeprefix("file://"))
    assert read["embedding"].to_pylist() == [[0.5, 0.25], [1.0, -2.0]]
    assert read.schema.field("embedding").type.value_type == pa.float32()


def test_optional_columns_may_be_absent_and_columns_may_come_in_any_order(local_table: Table) -> None:
    rows = embeddings(["a", "b"])
    file = write_data_file(local_table, rows.select(rows.column_names[::-1]), "unit", VECTORS)
    read = pq.read_table(file.path.removeprefix("file://"))
    assert read.column_names == [field.name for field in local_table.schema().fields]
    assert read.to_pylist() == rows.to_pylist()


def test_a_file_has_the_tables_field_ids_and_no_arrow_schema(local_table: Table) -> None:
    file = write_data_file(local_table, embeddings(["a"]), "unit", VECTORS)
    parquet = pq.ParquetFile(file.path.removeprefix("file://"))
    ids = {field.name: field.metadata[b"PARQUET:field_id"] for field in parquet.schema_arrow}
    assert ids == {field.name: str(field.field_id).encode() for field in local_table.schema().fields}
    assert b"ARROW:schema" not in (parquet.metadata.metadata or {})


def test_vectors_are_byte_stream_split_and_zstd_without_dictionary_or_statistics(local_table: Table) -> None:
    file = write_data_file(local_table, embeddings(["a", "b", "c"]), "unit", VECTORS)
    group = pq.ParquetFile(file.path.removeprefix("file://")).metadata.row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    vector = columns.pop("embedding.list.element")
    assert "BYTE_STREAM_SPLIT" in vector.encodings
    assert "RLE_DICTIONARY" not in vector.encodings
    assert not vector.has_dictionary_page
    assert not vector.is_stats_set
    assert vector.compression == "ZSTD"
    for name, column in columns.items():
        assert column.compression == "ZSTD", name
        assert column.has_dictionary_page, name
        assert column.is_stats_set, name


def test_row_groups_hold_at_most_what_the_layout_says(local_table: Table) -> None:
    layout = ParquetLayout(vector_columns=("embedding",), row_group_rows=4)
    file = write_data_file(local_table, embeddings([str(n) for n in range(10)]), "unit", layout)
    metadata = pq.ParquetFile(file.path.removeprefix("file://")).metadata
    assert [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)] == [4, 4, 2]
    assert file.rows == 10
    assert len(file.statistics["split_offsets"]) == 3


def test_the_bounds_of_a_long_unit_are_not_cut_and_vectors_have_none(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    unit = "s3://lake/chunks/data/" + "x" * 60 + "-ünit.parquet"
    table = lake.table("embeddings")
    file = write_data_file(table, embeddings(["a", "b"], source="s" * 40, unit=unit), "unit", VECTORS)
    append_files(table, [file], {})
    [task] = lake.table("embeddings").scan().plan_files()
    schema = lake.table("embeddings").schema()
    field = {
        name: schema.find_field(name).field_id for name in ("unit", "source", "embedding.element", "chunk_id")
    }
    lower, upper = task.file.lower_bounds, task.file.upper_bounds
    assert from_bytes(StringType(), lower[field["unit"]]) == unit
    assert from_bytes(StringType(), upper[field["unit"]]) == unit
    assert from_bytes(StringType(), lower[field["source"]]) == "s" * 16  # the default, which others keep
    for name in ("embedding.element", "chunk_id"):
        assert field[name] not in lower
        assert field[name] not in upper
    assert task.file.record_count == 2


def test_a_described_file_crosses_processes(local_table: Table) -> None:
    file = write_data_file(local_table, embeddings(["a"]), "unit", VECTORS)
    other = pickle.loads(pickle.dumps(file))
    assert other == file
    assert other.data_file() == file.data_file()
    assert other.data_file().partition == file.data_file().partition


def test_two_attempts_at_one_file_never_overwrite_each_other(local_table: Table) -> None:
    files = [write_data_file(local_table, embeddings(["a"]), "same-name", VECTORS) for _ in range(3)]
    assert len({file.path for file in files}) == 3
    assert all("same-name-" in file.path for file in files)


def test_another_engines_file_is_described_and_read(local_config: LakeConfig, tmp_path: Path) -> None:
    lake = opened(local_config)
    rows = rejects(["a", "b"], stage="read")
    file = describe_data_file(lake.table("rejects"), foreign(tmp_path, lake.table("rejects"), rows))
    assert (file.partition, file.rows) == (("read",), 2)
    append_files(lake.table("rejects"), [file], {})
    assert lake.table("rejects").scan().to_arrow().num_rows == 2


def test_another_engines_file_is_refused_if_it_lacks_columns_or_rows_or_spans_partitions(
    local_table: Table, tmp_path: Path
) -> None:
    whole = embeddings(["a"])
    with pytest.raises(CommitError, match="lacks the required columns embedding, unit"):
        describe_data_file(
            local_table, foreign(tmp_path, local_table, whole.drop_columns(["unit", "embedding"]))
        )
    with pytest.raises(CommitError, match="has no rows"):
        describe_data_file(local_table, foreign(tmp_path, local_table, whole.slice(0, 0)))
    two = pa.concat_tables([whole, embeddings(["b"], source="manual")])
    with pytest.raises(CommitError, match="'source' has 2 values"):
        describe_data_file(local_table, foreign(tmp_path, local_table, two))


@pytest.mark.parametrize("fault", ["no field ids", "vectors of text", "null source", "numbers as unit"])
def test_another_engines_file_is_refused_if_readers_could_not_read_it(
    local_table: Table, tmp_path: Path, fault: str
) -> None:
    rows = embeddings(["a", "b"])
    changes = {
        "no field ids": ("source", rows["source"].combine_chunks()),
        "vectors of text": ("embedding", pa.array([["a"], ["b"]])),
        "null source": ("source", pa.array([None, None], pa.string())),
        "numbers as unit": ("unit", pa.array([1, 1])),
    }
    path = foreign(tmp_path, local_table, with_column(rows, *changes[fault]))
    if fault == "no field ids":
        pq.write_table(rows, path.removeprefix("file://"))
    with pytest.raises(CommitError):
        describe_data_file(local_table, path)


def test_a_null_within_a_vector_is_refused_and_no_file_is_left(local_config: LakeConfig) -> None:
    table = opened(local_config).table("embeddings")
    holes = pa.array([[1.0, None], [2.0, 3.0]], pa.list_(pa.float32()))
    with pytest.raises(CommitError, match="embedding"):
        write_data_file(table, with_column(embeddings(["a", "b"]), "embedding", holes), "unit", VECTORS)
    assert data_files(table) == []
