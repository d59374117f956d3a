import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from pydantic import ValidationError
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.types import StringType

from pipelines.errors import CatalogError, ModelError
from pipelines.lake import Lake, LakeConfig, S3Config
from pipelines.lake.commit import append_files
from pipelines.lake.tables import TABLES, TOKENIZER_PROPERTY
from tests.lake.samples import keys_of, opened, written
from tests.lake.writers import at_once, create_tables

NAMES = {spec.name for spec in TABLES}


def test_a_local_lake_is_one_folder_that_a_plain_pyiceberg_catalogue_reads(tmp_path: Path) -> None:
    folder = tmp_path / "some lake"
    lake = opened(LakeConfig(dir=folder))
    append_files(lake.table("rejects"), [written(lake.table("rejects"), ["a"])], {})
    assert {path.name for path in folder.iterdir()} == {"catalog.db", "warehouse"}
    plain = SqlCatalog("lake", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
    assert {name for _, name in plain.list_tables("embedlake")} == NAMES
    table = plain.load_table("embedlake.rejects")
    assert table.scan().to_arrow()["key"].to_pylist() == ["a"]
    assert table.location() == f"file://{folder}/warehouse/embedlake/rejects"


def test_a_lake_in_a_relative_folder_is_found_from_another_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = opened(LakeConfig(dir=Path("lake")))
    append_files(lake.table("rejects"), [written(lake.table("rejects"), ["a"])], {})
    monkeypatch.chdir("/")
    assert keys_of(Lake.open(LakeConfig(dir=tmp_path / "lake"))) == ["a"]


@pytest.mark.parametrize("name", ["with space", "ü", "a:b", "a'b", "[x]", "~x", "a\\b"])
def test_a_lakes_folder_may_have_an_unusual_name(tmp_path: Path, name: str) -> None:
    lake = opened(LakeConfig(dir=tmp_path / name))
    append_files(lake.table("rejects"), [written(lake.table("rejects"), ["a"])], {})
    assert keys_of(lake) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b"])
def test_a_folder_whose_name_means_something_in_a_uri_is_refused_or_used(tmp_path: Path, name: str) -> None:
    try:
        opened(LakeConfig(dir=tmp_path / name))
    except ValidationError:
        assert list(tmp_path.iterdir()) == []
    else:
        assert [path.name for path in tmp_path.iterdir()] == [name]


def test_tables_are_created_once_and_kept_as_they_are(lake_config: LakeConfig) -> None:
    lake = Lake.open(lake_config)
    assert not any(lake.exists(name) for name in NAMES)
    lake.ensure_tables()
    before = {name: lake.table(name).metadata for name in NAMES}
    append_files(lake.table("rejects"), [written(lake.table("rejects"), ["a"])], {})
    Lake.open(lake_config).ensure_tables()
    after = {name: lake.table(name).metadata for name in NAMES}
    assert {name: table.table_uuid for name, table in after.items()} == {
        name: table.table_uuid for name, table in before.items()
    }
    assert all(lake.exists(name) for name in NAMES)
    assert keys_of(lake) == ["a"]


def test_two_namespaces_of_one_catalogue_are_two_lakes(lake_config: LakeConfig) -> None:
    first = opened(lake_config)
    other = opened(lake_config.model_copy(update={"namespace": f"{lake_config.namespace}x"}))
    append_files(first.table("rejects"), [written(first.table("rejects"), ["a"])], {})
    assert (keys_of(first), keys_of(other)) == (["a"], [])


# (Not on SeaweedFS: of two that create one table there, both succeed.)


def test_processes_that_create_a_lake_at_once_get_the_same_tables(local_config: LakeConfig) -> None:
    created = at_once(3, create_tables, local_config)
    assert len({tuple(ids) for ids in created}) == 1


def test_threads_that_create_a_lake_at_once_get_the_same_tables(local_config: LakeConfig) -> None:
    start = Barrier(4)

    def create(writer: int) -> list[str]:
        start.wait()
        return create_tables(writer, local_config)

    with ThreadPoolExecutor(4) as pool:
        assert len({tuple(ids) for ids in pool.map(create, range(4))}) == 1


def test_a_namespace_that_a_rival_creates_in_the_same_moment_is_as_good(
    local_config: LakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, rival = Lake.open(local_config), Lake.open(local_config)
    exists = lake.catalog.namespace_exists

    def rival_is_faster(namespace: str) -> bool:
        answer = bool(exists(namespace))
        rival.catalog.create_namespace_if_not_exists(namespace)
        return answer

    monkeypatch.setattr(lake.catalog, "namespace_exists", rival_is_faster)
    lake.ensure_tables()
    assert all(lake.exists(name) for name in NAMES)


def test_a_table_that_a_rival_creates_in_the_same_moment_is_as_good(
    lake_config: LakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, rival = Lake.open(lake_config), Lake.open(lake_config)
    rival.ensure_tables()
    uuids = {name: rival.table(name).metadata.table_uuid for name in NAMES}

    def not_yet(identifier: object) -> Table:
        raise NoSuchTableError(str(identifier))

    with monkeypatch.context() as before:
        before.setattr(lake.catalog, "load_table", not_yet)
        lake.ensure_tables()
    assert {name: lake.table(name).metadata.table_uuid for name in NAMES} == uuids


def test_a_table_of_another_version_is_refused_with_what_it_lacks(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    with lake.table("documents").update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("bands").delete_column("kept_doc_id").add_column("own", StringType())
    with pytest.raises(CatalogError, match="'documents' has no column kept_doc_id, bands: ") as caught:
        lake.ensure_tables()
    assert "namespace" in (caught.value.hint or "")


def test_a_lake_without_tables_says_what_to_do(lake_config: LakeConfig) -> None:
    with pytest.raises(CatalogError) as caught:
        Lake.open(lake_config).table("chunks")
    assert caught.value.message == f"the lake has no table '{lake_config.namespace}.chunks'"
    assert caught.value.hint == "Run 'embedlake curate' first"
    with pytest.raises(CatalogError) as caught:
        opened(lake_config).table("nothing")
    assert caught.value.hint == ""


def test_the_first_tokenizer_is_recorded_and_another_is_refused(lake_config: LakeConfig) -> None:
    lake = opened(lake_config)
    lake.bind_tokenizer("a" * 32)
    lake.bind_tokenizer("a" * 32)
    with pytest.raises(ModelError, match=f"made by tokenizer {'a' * 12}, the model has {'b' * 12}") as caught:
        Lake.open(lake_config).bind_tokenizer("b" * 32)
    assert "lake.namespace" in caught.value.hint
    assert lake.table("chunks").properties[TOKENIZER_PROPERTY] == "a" * 32


def test_a_tokenizer_is_bound_although_others_change_the_table_in_the_same_moment(
    local_config: LakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, rival = opened(local_config), Lake.open(local_config)
    write = lake.catalog._write_metadata  # type: ignore[attr-defined]

    def rival_is_faster(*arguments: object, **named: object) -> None:
        monkeypatch.undo()
        with rival.table("chunks").transaction() as transaction:
            transaction.set_properties({"of": "another job"})
        write(*arguments, **named)

    monkeypatch.setattr(lake.catalog, "_write_metadata", rival_is_faster)
    lake.bind_tokenizer("ours")
    properties = rival.table("chunks").properties
    assert (properties[TOKENIZER_PROPERTY], properties["of"]) == ("ours", "another job")


def test_a_tokenizer_that_a_rival_binds_in_the_same_moment_is_not_overwritten(
    local_config: LakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, rival = opened(local_config), Lake.open(local_config)
    load = lake.catalog.load_table

    def rival_is_faster(identifier: tuple[str, str]) -> object:
        table = load(identifier)
        monkeypatch.undo()
        rival.bind_tokenizer("theirs")
        return table

    monkeypatch.setattr(lake.catalog, "load_table", rival_is_faster)
    with pytest.raises(ModelError):
        lake.bind_tokenizer("ours")
    assert rival.table("chunks").properties[TOKENIZER_PROPERTY] == "theirs"


def test_spark_opens_the_catalogue_that_pyiceberg_opens_local(local_config: LakeConfig) -> None:
    lake = Lake.open(local_config)
    conf, at = lake.spark_conf(), f"spark.sql.catalog.{lake.catalog.name}"
    assert conf[at] == "org.apache.iceberg.spark.SparkCatalog"
    assert conf[f"{at}.type"] == "jdbc"
    assert conf[f"{at}.uri"].removeprefix("jdbc:sqlite:") == str(local_config.root) + "/catalog.db"
    assert lake.catalog.properties["uri"] == f"sqlite:///{local_config.root}/catalog.db"
    assert conf[f"{at}.warehouse"] == lake.catalog.properties["warehouse"]
    assert conf[f"{at}.jdbc.schema-version"] == "V1"  # else views fail, and pyiceberg warns
    assert conf[f"{at}.cache-enabled"] == "false"
    assert lake.spark_secrets() == {}


def test_spark_opens_the_catalogue_that_pyiceberg_opens_s3(s3_config: LakeConfig) -> None:
    catalog = s3_config.catalog.model_copy(update={"properties": {"header.x-tenant": "seven"}})
    lake = Lake.open(s3_config.model_copy(update={"catalog": catalog}))
    conf, at = lake.spark_conf(), f"spark.sql.catalog.{lake.catalog.name}"
    assert conf[f"{at}.type"] == "rest"
    assert conf[f"{at}.io-impl"] == "org.apache.iceberg.aws.s3.S3FileIO"
    for name in ("uri", "warehouse", "oauth2-server-uri", "s3.endpoint", "header.x-tenant"):
        assert conf[f"{at}.{name}"] == lake.catalog.properties[name], name
    assert conf[f"{at}.client.region"] == lake.catalog.properties["s3.region"]
    assert conf[f"{at}.s3.path-style-access"] == "true"
    assert lake.catalog.properties["s3.force-virtual-addressing"] == "false"


def test_sparks_settings_hold_no_secret_and_its_secrets_the_credential(
    s3_config: LakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.open(s3_config)
    credential = os.environ["EMBEDLAKE_CATALOG_CREDENTIAL"]
    at = f"spark.sql.catalog.{s3_config.name}"
    assert lake.spark_secrets() == {f"{at}.credential": credential}
    secrets = {*credential.split(":"), os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]}
    for text in (*lake.spark_conf().items(), s3_config.model_dump_json(), repr(lake.config)):
        assert not any(secret in str(text) for secret in secrets)
    monkeypatch.setenv("EMBEDLAKE_CATALOG_TOKEN", "a-token")
    assert lake.spark_secrets() == {f"{at}.token": "a-token"}


def test_an_oauth2_catalogue_without_a_credential_says_which_variable_to_set(
    s3_config: LakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EMBEDLAKE_CATALOG_CREDENTIAL")
    with pytest.raises(CatalogError) as caught:
        Lake.open(s3_config)
    assert caught.value.hint == (
        "Set EMBEDLAKE_CATALOG_CREDENTIAL=client-id:secret or EMBEDLAKE_CATALOG_TOKEN"
    )


def test_s3_falls_back_on_the_standard_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert (S3Config().resolved_endpoint(), S3Config().resolved_region()) == (None, "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert (S3Config().resolved_endpoint(), S3Config().resolved_region()) == ("http://all", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert (S3Config().resolved_endpoint(), S3Config().resolved_region()) == ("http://s3", "eu-north-1")
    own = S3Config(endpoint="http://own", region="us-west-2")
    assert (own.resolved_endpoint(), own.resolved_region()) == ("http://own", "us-west-2")
