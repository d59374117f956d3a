from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.config import parse
from pipelines.encoder.conf import ModelConf, known_models, load_model_conf, model_folder, prefixed
from pipelines.errors import ConfigError, ModelError

VALID: dict[str, Any] = {
    "name": "tiny",
    "path": "checkpoint",
    "prefixes": {"document": "", "query": ""},
    "dimension": 64,
    "dimensions": [64, 32],
    "max_tokens": 128,
}
ROPE = {"rope_theta": 1000, "rope_type": "dynamic", "factor": 2, "max_position_embeddings": 2048}
SHA = "0" * 40


def test_every_shipped_model_is_valid_and_named_as_its_file() -> None:
    assert {"minilm", "nomic-embed-text-v1.5"} <= set(known_models())
    for name in known_models():
        assert load_model_conf(name).name == name


def test_nomic_is_described_as_its_report_has_it() -> None:
    conf = load_model_conf("nomic-embed-text-v1.5")
    assert conf.layer_norm
    assert conf.dimensions == (768, 512, 256, 128, 64)
    assert conf.rope is not None
    assert conf.rope.model_dump() == ROPE
    assert (conf.prefix("document"), conf.prefix("query")) == ("search_document", "search_query")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"dimension": 32}, "begin with the full dimension"),
        ({"dimensions": []}, "begin with the full dimension"),
        ({"dimensions": [64, 32, 32]}, "must descend"),
        ({"dimensions": [64, 0]}, "greater than or equal to 1"),
        ({"package": "some_package"}, "exactly one of"),
        ({"path": None}, "exactly one of"),
        ({"path": None, "hub": "owner/name"}, "revision"),
        ({"revision": SHA}, "revision"),
        ({"path": None, "hub": "owner/name", "revision": "main"}, "match pattern"),
        ({"path": None, "hub": "../name", "revision": SHA}, "match pattern"),
        ({"prefixes": {"document": ""}}, "no prefix for query"),
        ({"prefixes": {"document": "search_document: ", "query": ""}}, "without ': '"),
        ({"prefixes": {"document": "", "query": "search_query:"}}, "without ': '"),
        ({"name": "a@b"}, "match pattern"),
        ({"weights_sha256": "53aa"}, "match pattern"),
        ({"max_tokens": 2}, "greater than or equal to 8"),
        ({"evaluation_tokens": 129}, "above max_tokens"),
        ({"precision": "float16"}, "bfloat16"),
        ({"pooling": "cls"}, "mean"),
        ({"rope": {**ROPE, "rope_type": "default"}}, "factor"),
        ({"rope": {**ROPE, "factor": 1}}, "factor"),
        (
            {"max_tokens": 4096, "rope": {"rope_theta": 1000, "max_position_embeddings": 2048}},
            "needs rope_type 'dynamic'",
        ),
    ],
)
def test_nonsense_is_refused(change: dict[str, Any], complaint: str) -> None:
    parse(ModelConf, VALID, "here")
    with pytest.raises(ConfigError, match=complaint):
        parse(ModelConf, {**VALID, **change}, "here")


def test_a_misspelt_setting_names_the_right_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'layer_norm'"):
        parse(ModelConf, {**VALID, "layernorm": True}, "here")


@pytest.mark.parametrize("name", ["minilmm", "../models/minilm", "", "minilm.yml.bak"])
def test_an_unknown_model_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ModelError, match=r"Known: .*minilm.*nomic-embed-text-v1\.5"):
        load_model_conf(name)


def test_a_path_is_taken_from_the_yaml_s_folder(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(VALID))
    assert load_model_conf(str(file)).path == tmp_path / "checkpoint"
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load_model_conf(str(tmp_path / "none.yaml"))


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"lacks tokenizer\.json, model\.safetensors"):
        model_folder(parse(ModelConf, {**VALID, "path": tmp_path}, "here"))


@pytest.mark.parametrize(
    ("package", "complaint"), [("no_such_model", "pip install no-such-model"), ("json", "get_model_path")]
)
def test_a_package_that_is_no_model_is_refused(package: str, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        model_folder(parse(ModelConf, {**VALID, "path": None, "package": package}, "here"))


def test_a_prefix_is_followed_by_a_colon_and_a_space() -> None:
    assert prefixed("search_query", "lake") == "search_query: lake"
    assert prefixed("", "lake") == "lake"
