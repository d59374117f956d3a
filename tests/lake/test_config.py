from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.lake import LakeConfig
from pipelines.lake.config import SparkConfig

REST = {"type": "rest", "uri": "http://host:1"}


def refusal(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        LakeConfig.model_validate(values)
    return str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "s3.secret-access-key",
        "s3.access-key-id",
        "credential",
        "token",
        "Token",
        "jdbc.password",
        "client_secret",
        "s3.session-token",
        "adls.account-access_key",
    ],
)
def test_no_property_may_be_a_secret_and_the_refusal_does_not_repeat_it_as_its_advice(key: str) -> None:
    words = refusal(catalog={**REST, "properties": {"a.b": "c", key: "hunter2"}})
    assert f"'{key}' is a credential: give it by EMBEDLAKE_CATALOG_CREDENTIAL or the AWS chain" in words


@pytest.mark.parametrize(
    "uri", ["http://me:hunter2@host/catalog", "postgresql://me:hunter2@db/lake", "https://token@host"]
)
def test_no_catalogue_address_may_hold_a_user_or_password(uri: str) -> None:
    kind = "rest" if uri.startswith("http") else "sql"
    words = refusal(catalog={"type": kind, "uri": uri}, warehouse="s3://b/w")
    assert "must hold no user or password: use EMBEDLAKE_CATALOG_CREDENTIAL" in words


def test_an_at_sign_behind_the_host_is_no_password() -> None:
    LakeConfig.model_validate({"catalog": {"type": "rest", "uri": "http://host/catalogs/a@b"}})


@pytest.mark.parametrize(
    "values",
    [
        {"catalog": {**REST, "oauth2_server_uri": "http://me:hunter2@host/tokens"}},
        {"catalog": {**REST, "properties": {"header.Authorization": "Bearer abc"}}},
        {"catalog": REST, "s3": {"endpoint": "http://me:hunter2@host"}},
    ],
)
def test_no_other_address_or_header_may_hold_one(values: dict[str, Any]) -> None:
    refusal(**values)


@pytest.mark.parametrize("kind", ["rest", "hive"])
def test_a_catalogue_service_needs_its_address(kind: str) -> None:
    words = refusal(catalog={"type": kind}, warehouse="s3://b/w")
    assert f"a {kind} catalogue needs its uri: set lake.catalog.uri or EMBEDLAKE_LAKE__CATALOG__URI" in words


@pytest.mark.parametrize("catalog", [{"type": "glue"}, {"type": "hive", "uri": "thrift://host:9083"}])
def test_a_catalogue_that_gives_no_warehouse_needs_one(catalog: dict[str, str]) -> None:
    assert "needs lake.warehouse" in refusal(catalog=catalog)
    LakeConfig.model_validate({"catalog": catalog, "warehouse": "s3://b/w"})


@pytest.mark.parametrize(
    "values",
    [{}, {"warehouse": "s3://b/w"}, {"catalog": {"uri": "sqlite:////c.db"}}, {"catalog": {"type": "sql"}}],
)
def test_a_file_catalogue_needs_a_folder_or_both_addresses(values: dict[str, Any]) -> None:
    assert "needs a folder (--lake DIR), or lake.catalog.uri and lake.warehouse" in refusal(**values)


def test_a_folder_gives_both_addresses_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path("lake"), tmp_path / "lake"):
        config = LakeConfig(dir=folder)
        assert config.catalog_uri == f"sqlite:///{tmp_path}/lake/catalog.db"
        assert config.warehouse_uri == f"file://{tmp_path}/lake/warehouse"


def test_a_folder_may_be_named_from_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert LakeConfig(dir=Path("~/lake")).root == Path("/home/me/lake")


def test_an_address_of_ones_own_wins_over_the_folders() -> None:
    config = LakeConfig.model_validate(
        {"dir": "/x", "warehouse": "s3://b/w", "catalog": {"uri": "sqlite:////c.db"}}
    )
    assert (config.catalog_uri, config.warehouse_uri) == ("sqlite:////c.db", "s3://b/w")


def test_a_rest_catalogue_may_keep_its_warehouse_to_itself() -> None:
    config = LakeConfig.model_validate({"catalog": REST})
    assert (config.catalog_uri, config.warehouse_uri, config.root) == ("http://host:1", None, None)


@pytest.mark.parametrize("buckets", [0, -1, 65537, "many"])
def test_the_number_of_buckets_has_bounds(buckets: object) -> None:
    assert "buckets" in refusal(dir="x", buckets=buckets)


def test_a_lake_has_the_names_that_both_engines_expect_unless_told() -> None:
    config = LakeConfig(dir=Path("x"))
    assert (config.name, config.namespace) == ("lake", "embedlake")


@pytest.mark.parametrize(
    ("master", "is_local"), [("local[*]", True), ("local", True), (None, False), ("spark://host:7077", False)]
)
def test_spark_is_local_if_its_executors_are_threads_here(master: str | None, is_local: bool) -> None:
    assert SparkConfig(master=master).is_local is is_local
