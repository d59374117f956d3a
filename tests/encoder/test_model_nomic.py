import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from transformers import NomicBertConfig, NomicBertModel

from pipelines.encoder.conf import RopeConf, load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.errors import ModelError
from tests.encoder.nomic import (
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    LEGACY_CONFIG,
    TRAINED,
    legacy_weights,
    nomic_conf,
    reference,
    save,
)

Row = npt.NDArray[np.int32]

# At, around and far beyond the trained length, two of one length among the long.
LENGTHS = (3, 17, 31, 32, 33, 33, 48, 64, 129, 200)


def random_rows(lengths: tuple[int, ...], seed: int = 1) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1000, 30000, size=length, dtype=np.int32) for length in lengths]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("nomic"), legacy_weights())


@pytest.fixture(scope="module")
def nomic(folder: Path) -> Encoder:
    return Encoder.load(nomic_conf(folder), device="cpu", precision="float32", threads=1)


def test_vectors_are_those_of_the_report_at_every_length(nomic: Encoder, folder: Path) -> None:
    rows = random_rows(LENGTHS)
    expected_ND = np.stack([reference(folder, row) for row in rows])
    np.testing.assert_allclose(nomic.encode_ids(rows), expected_ND, atol=2e-5)


def test_the_reference_tells_rotary_bases_apart(folder: Path) -> None:
    """Else the test above would pass without RoPE, or with the usual base."""
    for row in random_rows((17, 64)):
        assert reference(folder, row) @ reference(folder, row, theta=10_000.0) < 0.999


def test_bfloat16_stays_close_to_the_report(folder: Path) -> None:
    encoder = Encoder.load(nomic_conf(folder), device="cpu", precision="bfloat16")
    rows = random_rows(LENGTHS)
    vectors_ND = encoder.encode_ids(rows)
    cosines = [vector_D @ reference(folder, row) for vector_D, row in zip(vectors_ND, rows, strict=True)]
    assert min(cosines) > 0.999
    assert vectors_ND.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors_ND, axis=1), 1, atol=1e-6)


def test_a_vector_depends_on_neither_neighbours_nor_order_nor_batch(nomic: Encoder) -> None:
    rows = random_rows(LENGTHS)
    alone_ND = np.concatenate([nomic.encode_ids([row]) for row in rows])
    order = np.random.default_rng(2).permutation(len(rows))
    for batch_tokens in (64, 4096):
        mixed_ND = nomic.encode_ids([rows[i] for i in order], batch_tokens=batch_tokens)
        np.testing.assert_allclose(mixed_ND, alone_ND[order], atol=2e-6)


def test_a_text_is_prefixed_by_its_role(nomic: Encoder, folder: Path) -> None:
    ids, _ = nomic.tokenizer.encode("search_query: what is a lake?")
    row = np.array([101, *ids, 102], dtype=np.int32)
    (vector_D,) = nomic.encode_texts(["what is a lake?"], role="query")
    assert vector_D @ reference(folder, row) > 1 - 1e-6


def test_a_masked_language_model_s_weights_load_from_under_their_prefix(folder: Path, tmp_path: Path) -> None:
    head = {"cls.predictions.decoder.weight": np.zeros((30528, HIDDEN), dtype=np.float32)}
    under_bert = {f"bert.{name}": value for name, value in legacy_weights().items()}
    encoder = Encoder.load(nomic_conf(save(tmp_path, under_bert | head)), device="cpu", precision="float32")
    rows = random_rows((17, 40))
    np.testing.assert_allclose(encoder.encode_ids(rows), [reference(folder, row) for row in rows], atol=2e-5)


def test_what_save_pretrained_writes_loads(tmp_path: Path) -> None:
    """A finetuned model: the hub's weight names beside transformers' own config keys."""
    save(tmp_path, {})
    config = NomicBertConfig(
        vocab_size=30528,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        initializer_range=0.2,
    )
    NomicBertModel(config).save_pretrained(tmp_path)
    encoder = Encoder.load(nomic_conf(tmp_path), device="cpu", precision="float32")
    rows = random_rows((17, 40))
    np.testing.assert_allclose(
        encoder.encode_ids(rows), [reference(tmp_path, row) for row in rows], atol=2e-5
    )


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    weights = legacy_weights()
    del weights["encoder.layers.1.mlp.fc2.weight"]
    with pytest.raises(ModelError, match=r"lacks weights: layers\.1\.mlp\.down_proj\.weight"):
        Encoder.load(nomic_conf(save(tmp_path, weights)), device="cpu")


def test_weights_that_the_config_has_no_layer_for_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, legacy_weights(), {**LEGACY_CONFIG, "n_layer": LAYERS - 1})
    with pytest.raises(ModelError, match="holds weights unknown to the model"):
        Encoder.load(nomic_conf(folder), device="cpu")


@pytest.mark.parametrize(
    ("key", "value"), [("prenorm", True), ("rotary_emb_interleaved", True), ("activation_function", "gelu")]
)
def test_variants_that_would_be_built_differently_are_refused(
    tmp_path: Path, key: str, value: object
) -> None:
    folder = save(tmp_path, legacy_weights(), {**LEGACY_CONFIG, key: value})
    with pytest.raises(ModelError, match=key):
        Encoder.load(nomic_conf(folder), device="cpu")


def test_another_rotary_base_than_trained_is_refused(folder: Path) -> None:
    rope = RopeConf(rope_theta=10_000, rope_type="dynamic", factor=2, max_position_embeddings=TRAINED)
    with pytest.raises(ModelError, match=r"trained with rope_theta 1000\.0"):
        Encoder.load(nomic_conf(folder).model_copy(update={"rope": rope}), device="cpu")


def test_rotary_positions_must_be_described(folder: Path) -> None:
    with pytest.raises(ModelError, match="rotary positions"):
        Encoder.load(nomic_conf(folder).model_copy(update={"rope": None}), device="cpu")


FOLDER_OF = """
import sys
from pipelines.encoder.conf import load_model_conf, model_folder
from pipelines.errors import ModelError
try:
    print(model_folder(load_model_conf("nomic-embed-text-v1.5")))
except ModelError as error:
    print("ModelError:", error)
print("torch" in sys.modules)
"""


def offline_folder_of_nomic(cache: Path) -> list[str]:
    """What the shipped configuration resolves to without a network, and whether torch was imported."""
    env = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        env.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", FOLDER_OF], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()


def test_a_hub_model_is_found_in_the_cache_and_else_says_how_to_fetch_it(
    folder: Path, tmp_path: Path
) -> None:
    conf = load_model_conf("nomic-embed-text-v1.5")
    message, torch_imported = offline_folder_of_nomic(tmp_path)
    assert message.startswith("ModelError: model 'nomic-ai/nomic-embed-text-v1.5'")
    assert f"hf download nomic-ai/nomic-embed-text-v1.5 --revision {conf.revision}" in message
    assert torch_imported == "False"

    repository = tmp_path / "hub" / "models--nomic-ai--nomic-embed-text-v1.5"
    snapshot = repository / "snapshots" / str(conf.revision)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (snapshot / name).symlink_to(folder / name)
    assert offline_folder_of_nomic(tmp_path)[0].startswith("ModelError"), "an interrupted download was taken"
    (snapshot / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert offline_folder_of_nomic(tmp_path)[0] == str(snapshot)
