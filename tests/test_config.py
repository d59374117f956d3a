from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from pipelines.config import Config, conf_dir, known_keys, load_yaml, parse
from pipelines.errors import ConfigError
from pipelines.lake.config import LakeConfig


class Inner(Config):
    size: int = Field(default=4, ge=1)
    names: tuple[str, ...] = ()


class Other(Config):
    colour: str = "red"


class Outer(Config):
    title: str = "none"
    inner: Inner = Inner()
    other: Other | None = None


KEYS = ("title", "inner", "inner.size", "inner.names", "other", "other.colour")


def nested(key: str, value: object) -> dict[str, object]:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def fault(values: dict[str, object]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(Outer, values, "here.yaml")
    return caught.value


def test_plain_data_becomes_the_configuration() -> None:
    parsed = parse(Outer, {"inner": {"size": 2, "names": ["a"]}, "other": {}}, "here")
    assert parsed == Outer(inner=Inner(size=2, names=("a",)), other=Other())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("titel", "title"),
        ("inner.sise", "inner.size"),
        ("inner.name", "inner.names"),
        ("other.color", "other.colour"),
    ],
)
def test_a_misspelt_last_part_is_told_the_nearest_name_of_its_section(written: str, meant: str) -> None:
    error = fault(nested(written, 1))
    assert error.message == f"unknown setting '{written}' in here.yaml"
    assert error.hint == f"Did you mean '{meant}'?"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("size", "inner.size"),
        ("names", "inner.names"),
        ("inner.colour", "other.colour"),
    ],
)
def test_a_right_name_in_a_wrong_section_is_told_where_it_belongs(written: str, meant: str) -> None:
    assert fault(nested(written, 1)).hint == f"Did you mean '{meant}'?"


def test_a_name_like_none_is_told_the_ones_of_its_section() -> None:
    error = fault(nested("inner.zzzzzzzz", 1))
    assert error.hint == "Known settings here: inner.names, inner.size"


@given(st.sampled_from(KEYS), st.integers(0, 30), st.sampled_from("abcxyz_"))
def test_one_letter_too_many_is_an_error_that_names_the_known_key(key: str, at: int, letter: str) -> None:
    head, dot, last = key.rpartition(".")
    at = min(at, len(last))
    written = f"{head}{dot}{last[:at]}{letter}{last[at:]}"
    error = fault(nested(written, 1))
    assert f"'{written}'" in error.message
    assert f"'{key}'" in error.hint


def test_known_keys_reach_into_optional_sections() -> None:
    assert tuple(known_keys(Outer)) == KEYS


def test_every_setting_of_the_lake_has_a_name() -> None:
    assert {"buckets", "catalog.uri", "catalog.properties", "s3.endpoint"} <= set(known_keys(LakeConfig))


@pytest.mark.parametrize(
    ("values", "key", "words"),
    [
        ({"inner": {"size": "many"}}, "inner.size", "valid integer"),
        ({"inner": {"size": 0}}, "inner.size", "greater than or equal to 1"),
        ({"inner": {"names": "a"}}, "inner.names", "valid tuple"),
        ({"inner": {"names": ["a", ["b"]]}}, "inner.names.1", "valid string"),
        ({"inner": 3}, "inner", "valid dictionary"),
        ({"title": None}, "title", "valid string"),
    ],
)
def test_a_value_of_a_wrong_kind_is_told_with_its_key_and_what_was_wanted(
    values: dict[str, object], key: str, words: str
) -> None:
    error = fault(values)
    assert error.message.startswith(f"setting '{key}' in here.yaml: ")
    assert words in error.message
    assert "\n" not in str(error)


def test_a_validators_own_words_come_without_pydantics_prefix() -> None:
    with pytest.raises(ConfigError, match=r"^setting 'catalog' in x: a rest catalogue needs its uri"):
        parse(LakeConfig, {"catalog": {"type": "rest"}}, "x")


def test_a_wrong_value_is_not_repeated_in_the_message() -> None:
    assert "hunter2" not in str(fault({"inner": {"size": "hunter2"}}))


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().size = 5


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# nothing yet\n")
    assert load_yaml(path) == {}


def test_text_in_a_file_is_utf8_whatever_the_machines_own_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("name: καφές".encode())
    assert load_yaml(path) == {"name": "καφές"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1, 2", "is not valid YAML: "),
        (b"a: b: c", "mapping values are not allowed"),
        (b"\tx: 1", "is not valid YAML"),
        (b"caf\xe9: 1", "is not valid YAML"),
        (b"a: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        (b"- a\n- b", "must hold a mapping of settings, not a list"),
        (b"just words", "must hold a mapping of settings, not a str"),
        (b"0", "must hold a mapping of settings, not a int"),
    ],
)
def test_a_file_that_is_no_mapping_is_told_in_one_line_with_its_name(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    assert str(path) in caught.value.message
    assert words in caught.value.message
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no configuration file .*/absent\.yaml"):
        load_yaml(tmp_path / "absent.yaml")


def test_the_shipped_profiles_and_models_are_found() -> None:
    assert {path.stem for path in (conf_dir() / "profiles").glob("*.yaml")} >= {"local", "s3", "cluster"}
    assert (conf_dir() / "models" / "minilm.yaml").is_file()
