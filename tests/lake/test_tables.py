from typing import Any

import pytest
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, IdentityTransform, Transform
from pyiceberg.types import ListType, StringType

from pipelines.lake import LakeConfig
from pipelines.lake.table_spec import TableSpec
from pipelines.lake.tables import BY_NAME, TABLES
from tests.lake.samples import opened

KEYS = {
    "chunks": ["chunk_id", "doc_id", "source"],
    "documents": ["doc_id", "source", "outcome"],
    "duplicates": ["doc_id", "kept_doc_id", "kind"],
    "rejects": ["key", "stage", "reason"],
    "embeddings": ["chunk_id", "model", "doc_id", "source", "embedding", "unit"],
}


@pytest.fixture(params=["local", "s3"], scope="module")
def tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    """The created tables as a reader finds them, once of each kind of lake."""
    if request.param == "local":
        config = LakeConfig(dir=tmp_path_factory.mktemp("lake"), buckets=7)
    else:
        seaweed = request.getfixturevalue("seaweed")
        config = LakeConfig.model_validate(
            {
                "namespace": "tables",
                "buckets": 7,
                "warehouse": seaweed.warehouse,
                "catalog": {
                    "type": "rest",
                    "uri": seaweed.catalog_uri,
                    "auth": "oauth2",
                    "oauth2_server_uri": seaweed.oauth2_server_uri,
                },
                "s3": {"endpoint": seaweed.s3_endpoint},
            }
        )
    lake = opened(config)
    return {spec.name: lake.table(spec.name) for spec in TABLES}


def described(schema: Schema) -> dict[str, tuple[str, bool, str | None]]:
    return {field.name: (str(field.field_type), field.required, field.doc) for field in schema.fields}


def test_every_column_of_every_table_is_documented(tables: dict[str, Table]) -> None:
    for name, table in tables.items():
        for field in table.schema().fields:
            assert field.doc, f"{name}.{field.name}"


def test_every_table_says_what_a_row_is(tables: dict[str, Table]) -> None:
    for name, table in tables.items():
        assert table.properties["comment"] == BY_NAME[name].doc


@pytest.mark.parametrize("spec", TABLES, ids=lambda spec: spec.name)
def test_columns_are_as_defined_whatever_ids_the_catalogue_gave_them(
    tables: dict[str, Table], spec: TableSpec
) -> None:
    found = described(tables[spec.name].schema())
    assert list(found) == [field.name for field in spec.schema.fields]
    for name, (_, required, doc) in described(spec.schema).items():
        assert found[name][1:] == (required, doc)
        field_type = tables[spec.name].schema().find_field(name).field_type
        assert type(field_type) is type(spec.schema.find_field(name).field_type)
        if isinstance(field_type, ListType):
            assert field_type.element_required


@pytest.mark.parametrize(("name", "columns"), KEYS.items())
def test_what_a_row_is_known_by_cannot_be_null(
    tables: dict[str, Table], name: str, columns: list[str]
) -> None:
    schema = tables[name].schema()
    assert all(schema.find_field(column).required for column in columns)


@pytest.mark.parametrize("spec", TABLES, ids=lambda spec: spec.name)
def test_partitions_are_as_defined_with_the_configured_buckets(
    tables: dict[str, Table], spec: TableSpec
) -> None:
    table = tables[spec.name]
    found = [
        (table.schema().find_column_name(field.source_id), field.transform, field.name)
        for field in table.spec().fields
    ]
    made: dict[str, Transform[Any, Any]] = {"identity": IdentityTransform(), "bucket": BucketTransform(7)}
    assert found == [(column, made[transform], name) for column, transform, name in spec.partitions]


def test_chunks_and_embeddings_share_their_documents_partitions(tables: dict[str, Table]) -> None:
    chunks = [(field.name, field.transform) for field in tables["chunks"].spec().fields]
    embeddings = [(field.name, field.transform) for field in tables["embeddings"].spec().fields]
    assert embeddings == [("model", IdentityTransform()), *chunks]


@pytest.mark.parametrize("spec", TABLES, ids=lambda spec: spec.name)
def test_a_file_is_sorted_as_defined(tables: dict[str, Table], spec: TableSpec) -> None:
    table = tables[spec.name]
    order = [table.schema().find_column_name(field.source_id) for field in table.sort_order().fields]
    assert tuple(order) == spec.order


def test_every_table_compresses_with_zstd_and_retries_commits(tables: dict[str, Table]) -> None:
    for name, table in tables.items():
        assert table.metadata.format_version == 2
        assert table.properties["write.parquet.compression-codec"] == "zstd"
        assert int(table.properties["commit.retry.num-retries"]) >= 20
        for key, value in BY_NAME[name].properties.items():
            assert table.properties[key] == value


def test_metric_properties_name_columns_that_exist(tables: dict[str, Table]) -> None:
    prefix = "write.metadata.metrics.column."
    named = [
        (name, key.removeprefix(prefix))
        for name, table in tables.items()
        for key in table.properties
        if key.startswith(prefix)
    ]
    assert ("embeddings", "unit") in named
    for name, column in named:
        assert tables[name].schema().find_field(column), f"{name}.{column}"


def test_a_bucket_transform_is_of_the_given_size_and_only_where_defined() -> None:
    spec = BY_NAME["embeddings"].partition_spec(16)
    assert [str(field.transform) for field in spec.fields] == ["identity", "identity", "bucket[16]"]
    bucket = BucketTransform(16).transform(StringType())
    assert {bucket(f"doc-{number}") for number in range(500)} == set(range(16))
