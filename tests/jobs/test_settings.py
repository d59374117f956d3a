from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.settings import Settings, load_settings, profile_path
from pipelines.config import conf_dir
from pipelines.errors import ConfigError

ADDRESSES = {
    "EMBEDLAKE_LAKE__CATALOG__URI": "http://host:1",
    "EMBEDLAKE_LAKE__WAREHOUSE": "s3://bucket/warehouse",
}
PROFILE = """
model: of-the-profile
lake:
  dir: of-the-profile
  buckets: 1
embed:
"""


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(PROFILE)
    return str(path)


def load(
    *assignments: str, profile: str = "local", environment: Mapping[str, str] | None = None, **rest: Any
) -> Settings:
    return load_settings(profile, assignments=assignments, environment=environment or {}, **rest)


def refusal(*assignments: str, **rest: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*assignments, **rest)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_profile_gives_way_to_the_environment_that_to_set_and_that_to_the_commands_options(
    profile: str,
) -> None:
    environment = {
        "EMBEDLAKE_MODEL": "env",
        "EMBEDLAKE_LAKE__BUCKETS": "2",
        "EMBEDLAKE_LAKE__NAMESPACE": "env",
    }
    assert load(profile=profile).model == "of-the-profile"
    assert load(profile=profile, environment=environment).model == "env"
    assert load("model=set", profile=profile, environment=environment).model == "set"
    found = load(
        "model=set", "lake.buckets=3", profile=profile, environment=environment, options={"model": "option"}
    )
    assert (found.model, found.lake.buckets, found.lake.namespace) == ("option", 3, "env")
    assert found.lake.dir == Path("of-the-profile")


def test_of_two_values_by_set_the_later_counts() -> None:
    assert load("lake.buckets=3", "lake.buckets=5").lake.buckets == 5


def test_an_option_that_was_not_given_changes_nothing(profile: str) -> None:
    assert load(profile=profile, options={"model": None}).model == "of-the-profile"


def test_the_processs_own_environment_is_read_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDLAKE_LAKE__BUCKETS", "9")
    assert load_settings().lake.buckets == 9
    assert load_settings(environment={}).lake.buckets == 4


def test_other_variables_and_those_of_the_command_and_credentials_are_no_settings() -> None:
    names = ("PROFILE", "LAKE", "DEBUG", "CATALOG_CREDENTIAL", "CATALOG_TOKEN")
    environment = {f"EMBEDLAKE_{name}": "x" for name in names} | {"PATH": "/bin", "LAKE__BUCKETS": "7"}
    assert load(environment=environment) == load()


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"environment": {"EMBEDLAKE_LAKE__BUKETS": "3"}}, "environment variable EMBEDLAKE_LAKE__BUKETS"),
        ({"options": {"lake.bukets": 3}}, "the command line"),
    ],
)
def test_an_unknown_setting_is_told_with_where_it_was_given_and_the_nearest_known_one(
    given: dict[str, Any], where: str
) -> None:
    assert refusal(**given) == f"unknown setting 'lake.bukets' in {where}. Did you mean 'lake.buckets'?"


def test_an_unknown_setting_of_set_or_of_the_profile_is_told_likewise(tmp_path: Path) -> None:
    mean = "Did you mean 'lake.buckets'?"
    assert refusal("lake.bukets=3") == f"unknown setting 'lake.bukets' in --set. {mean}"
    path = tmp_path / "p.yaml"
    path.write_text("lake: {dir: x, bukets: 3}")
    assert refusal(profile=str(path)) == f"unknown setting 'lake.bukets' in profile {path}. {mean}"
    path.write_text("lak: {dir: x}")
    assert refusal(profile=str(path)) == f"unknown setting 'lak' in profile {path}. Did you mean 'lake'?"


def test_an_unknown_section_is_told_as_such() -> None:
    words = refusal(environment={"EMBEDLAKE_LAKEE__BUCKETS": "3"})
    assert words == (
        "unknown setting 'lakee' in environment variable EMBEDLAKE_LAKEE__BUCKETS. Did you mean 'lake'?"
    )


def test_a_wrong_value_is_told_with_where_it_was_given() -> None:
    words = refusal(environment={"EMBEDLAKE_LAKE__BUCKETS": "many"})
    assert words.startswith("setting 'lake.buckets' in environment variable EMBEDLAKE_LAKE__BUCKETS: ")
    assert refusal("curate.chunk.max_tokens=4").startswith("setting 'curate.chunk.max_tokens' in --set: ")
    assert refusal("curate.source_priority=[a, [b]]").startswith(
        "setting 'curate.source_priority.1' in --set: "
    )


def test_a_contradiction_between_settings_is_told_with_the_one_that_was_given() -> None:
    words = refusal("curate.columns.id=text")
    assert words == (
        "setting 'curate.columns' in --set: the column 'text' cannot be two of id, text, source and arrival"
    )


def test_a_value_below_something_that_is_no_section_is_refused() -> None:
    words = refusal("lake.buckets.more=3")
    assert words == "'lake.buckets.more' (--set): 'buckets' is a setting, not a section"


@pytest.mark.parametrize("assignment", ["lake.buckets", "=3", " =3", ""])
def test_set_wants_a_name_and_a_value(assignment: str) -> None:
    assert "--set takes NAME=VALUE" in refusal(assignment)


def test_lists_and_mappings_are_given_as_yaml() -> None:
    found = load(
        "curate.source_priority=[a, b c, 'd']",
        'embed.label_selector={ray.io/accelerator-type: "H100"}',
        "lake.catalog.properties={warehouse.x: y}",
    )
    assert found.curate.source_priority == ("a", "b c", "d")
    assert found.embed.label_selector == {"ray.io/accelerator-type": "H100"}
    assert found.lake.catalog.properties == {"warehouse.x": "y"}
    assert "is not valid YAML" in refusal("curate.source_priority=[a")


def test_null_unsets_a_setting_and_none_is_a_word_like_any_other() -> None:
    assert load("spark.master=null").spark.master is None
    assert load("lake.catalog.auth=none").lake.catalog.auth == "none"
    assert load("lake.namespace=None").lake.namespace == "None"


@given(st.text(st.characters(exclude_characters="[{", exclude_categories=["Cs"]), min_size=1))
def test_text_is_taken_as_it_is(text: str) -> None:
    if text.strip() == "null":
        return
    assert load(f"lake.namespace={text}").lake.namespace == text
    assert load(environment={"EMBEDLAKE_LAKE__NAMESPACE": text}).lake.namespace == text


def test_numbers_and_truth_values_are_read_from_text() -> None:
    found = load("lake.buckets= 8 ", "lake.s3.path_style=false", "embed.commit_seconds=1.5")
    assert (found.lake.buckets, found.lake.s3.path_style, found.embed.commit_seconds) == (8, False, 1.5)


def test_a_section_that_the_profile_leaves_empty_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("lake:\nspark:\n")
    found = load("spark.driver_memory=1g", profile=str(path), lake_dir=Path("x"))
    assert (found.lake.dir, found.spark.driver_memory) == (Path("x"), "1g")
    path.write_text("lake:\n  dir: x\n  s3:\n")
    assert load("lake.s3.region=eu-north-1", profile=str(path)).lake.s3.region == "eu-north-1"


@pytest.mark.parametrize("content", ["", "lake:", "spark: {master: local}"])
def test_without_a_folder_or_addresses_it_says_how_to_give_them(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)
    assert "needs a folder (--lake DIR), or lake.catalog.uri and lake.warehouse" in refusal(profile=str(path))


def test_lake_names_the_folder_of_a_local_lake() -> None:
    assert load(lake_dir=Path("/somewhere")).lake.dir == Path("/somewhere")


@pytest.mark.parametrize("profile", ["s3", "cluster"])
def test_a_local_folder_is_refused_where_the_catalogue_is_a_service(profile: str) -> None:
    words = refusal(profile=profile, environment=ADDRESSES, lake_dir=Path("x"))
    assert words.startswith("--lake names a local folder, but the profile has a catalogue service")


@pytest.mark.parametrize("content", ["lake: 5", "lake: {catalog: 5}", "lake: [a]", "1: 2", "lake: {1: 2}"])
def test_a_profile_of_another_shape_is_a_config_error_even_with_a_folder(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)
    refusal(profile=str(path), lake_dir=Path("x"))
    refusal(profile=str(path))


def test_every_shipped_profile_loads_with_what_it_leaves_to_the_environment() -> None:
    found = {
        path.stem: load(profile=path.stem, environment=ADDRESSES if path.stem != "local" else {})
        for path in (conf_dir() / "profiles").glob("*.yaml")
    }
    assert found.keys() >= {"local", "s3", "cluster"}
    assert found["local"].lake.catalog.type == "sql"
    assert found["s3"].lake.catalog.auth == found["cluster"].lake.catalog.auth == "oauth2"
    assert found["s3"].lake.warehouse_uri == "s3://bucket/warehouse"
    assert (found["cluster"].spark.master, found["cluster"].spark.jars) == (None, "provided")


@pytest.mark.parametrize("profile", ["s3", "cluster"])
def test_a_profile_without_its_address_says_how_to_give_it(profile: str) -> None:
    assert "set lake.catalog.uri or EMBEDLAKE_LAKE__CATALOG__URI" in refusal(profile=profile)


def test_an_absent_profile_is_told_with_those_there_are() -> None:
    words = refusal(profile="lokal")
    assert words.startswith("there is no profile 'lokal'. Profiles: cluster, local, s3")
    assert refusal(profile="./mine.yaml") == "there is no configuration file mine.yaml"
    assert profile_path("a/b.yml") == Path("a/b.yml")


def test_no_setting_takes_a_credential() -> None:
    for name in (
        "lake.catalog.credential",
        "lake.catalog.token",
        "lake.s3.secret_access_key",
        "lake.s3.access_key",
    ):
        words = refusal(f"{name}=hunter2")
        assert words.startswith(f"unknown setting '{name}' in --set")
        assert "hunter2" not in words
    words = refusal("lake.catalog.properties={s3.secret-access-key: hunter2}")
    assert "give it by EMBEDLAKE_CATALOG_CREDENTIAL or the AWS chain" in words
    assert "hunter2" not in words


def test_loading_twice_gives_the_same_and_leaves_the_profile_as_it_was(profile: str) -> None:
    first = load("lake.buckets=7", profile=profile)
    assert load("lake.buckets=7", profile=profile) == first
    assert Path(profile).read_text() == PROFILE
