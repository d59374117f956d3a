import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer

from pipelines.encoder.conf import ModelConf, model_folder
from pipelines.encoder.fingerprint import describe_model
from pipelines.encoder.model import Encoder
from pipelines.errors import ModelError
from tests.encoder.texts import chunks

Row = npt.NDArray[np.int32]


@pytest.fixture(scope="module")
def texts(encoder: Encoder) -> list[str]:
    return chunks(encoder.tokenizer, 520)


@pytest.fixture(scope="module")
def reference(minilm: ModelConf) -> SentenceTransformer:
    model = SentenceTransformer(str(model_folder(minilm)), device="cpu")
    model.max_seq_length = 512  # its file says 256, its tokenizer 128
    return model


@pytest.fixture(scope="module")
def expected(reference: SentenceTransformer, texts: list[str]) -> npt.NDArray[np.float32]:
    vectors: npt.NDArray[np.float32] = reference.encode(texts, normalize_embeddings=True)
    return vectors


def rows_from_chunks(encoder: Encoder, texts: list[str], role: str) -> list[Row]:
    """Rows as `embed` makes them: a chunk's own ids, the prefix added to them."""
    tokenizer, prefix = encoder.tokenizer, encoder.conf.prefix(role)
    return [tokenizer.model_input(ids, prefix) for ids, _ in tokenizer.encode_batch(texts)]


def test_float32_vectors_are_sentence_transformers_own(
    encoder: Encoder, texts: list[str], expected: npt.NDArray[np.float32]
) -> None:
    vectors_ND = encoder.encode_ids(rows_from_chunks(encoder, texts, "document"))
    assert vectors_ND.shape == (520, 384)
    assert vectors_ND.dtype == np.float32
    assert (vectors_ND * expected).sum(axis=1).min() > 0.9999
    np.testing.assert_allclose(vectors_ND, expected, atol=1e-5)


def test_bfloat16_vectors_are_close(
    minilm: ModelConf, texts: list[str], expected: npt.NDArray[np.float32]
) -> None:
    encoder = Encoder.load(minilm, device="cpu", precision="bfloat16")
    vectors_ND = encoder.encode_ids(rows_from_chunks(encoder, texts, "document"), batch_tokens=2048)
    assert (vectors_ND * expected).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(vectors_ND, axis=1), 1, atol=1e-6)
    assert encoder.precision == "bfloat16"


def test_a_prefix_is_read_as_text(
    minilm: ModelConf, reference: SentenceTransformer, texts: list[str]
) -> None:
    prefixes = {"document": "search_document", "query": "search_query"}
    encoder = Encoder.load(
        minilm.model_copy(update={"prefixes": prefixes}), device="cpu", precision="float32"
    )
    for role, prefix in prefixes.items():
        expected = reference.encode([f"{prefix}: {text}" for text in texts[:30]], normalize_embeddings=True)
        from_ids = encoder.encode_ids(rows_from_chunks(encoder, texts[:30], role))
        np.testing.assert_allclose(from_ids, expected, atol=1e-5)
        np.testing.assert_allclose(encoder.encode_texts(texts[:30], role=role), expected, atol=1e-5)


def test_a_vector_depends_on_neither_neighbours_nor_order(encoder: Encoder, texts: list[str]) -> None:
    rows = rows_from_chunks(encoder, texts[:40], "document")
    together_ND = encoder.encode_ids(rows)
    np.testing.assert_allclose(encoder.encode_ids(rows[::-1])[::-1], together_ND, atol=2e-6)
    for i in (0, 7, 39):
        np.testing.assert_allclose(encoder.encode_ids([rows[i]], batch_tokens=1), together_ND[[i]], atol=2e-6)


def test_its_key_is_the_one_that_the_driver_was_told(encoder: Encoder, minilm: ModelConf) -> None:
    assert encoder.key == describe_model(minilm, "float32").key
    assert encoder.dimension == 384


def test_no_rows_give_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode_ids([]).shape == (0, 384)
    assert encoder.encode_texts([], role="query").shape == (0, 384)


def row(*ids: int) -> Row:
    return np.array([101, *ids, 102], dtype=np.int32)


def test_a_row_of_the_longest_length_passes_and_a_longer_one_names_the_setting(encoder: Encoder) -> None:
    assert encoder.encode_ids([row(*[2000] * 510)]).shape == (1, 384)
    with pytest.raises(ModelError, match="row 1 has 513 tokens, more than the max_tokens of 'minilm', 512"):
        encoder.encode_ids([row(2000), row(*[2000] * 511)])


@pytest.mark.parametrize("wrong", [30522, -1, 2**31 - 1])
def test_ids_of_another_vocabulary_are_refused(encoder: Encoder, wrong: int) -> None:
    with pytest.raises(ModelError, match=f"row 2 holds token id {wrong}"):
        encoder.encode_ids([row(5), row(), row(7, wrong), row(8)])


def test_an_empty_row_is_refused(encoder: Encoder) -> None:
    with pytest.raises(ModelError, match="row 1 has no tokens"):
        encoder.encode_ids([row(5), np.array([], dtype=np.int32)])


def test_an_unknown_role_lists_the_known_ones(encoder: Encoder) -> None:
    with pytest.raises(ModelError, match=r"no prefix for role 'passage'\. Known: document, query"):
        encoder.encode_texts(["text"], role="passage")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"weights_sha256": "0" * 64}, "should have 0000"),
        ({"dimension": 512, "dimensions": (512,)}, "dimension 384, its YAML says 512"),
        ({"max_tokens": 513}, "knows 512 positions"),
    ],
)
def test_a_model_other_than_described_is_refused(
    minilm: ModelConf, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ModelError, match=complaint):
        Encoder.load(minilm.model_copy(update=change), device="cpu")


def copied(minilm: ModelConf, folder: Path) -> ModelConf:
    """The packaged model in a folder of its own, to be damaged."""
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        shutil.copy(model_folder(minilm) / name, folder)
    return minilm.model_copy(update={"package": None, "path": folder, "weights_sha256": None})


def test_weights_that_are_missing_are_refused_but_an_unused_head_may_be(
    minilm: ModelConf, encoder: Encoder, tmp_path: Path
) -> None:
    conf, file = copied(minilm, tmp_path), tmp_path / "model.safetensors"
    weights = {name: value for name, value in load_file(file).items() if not name.startswith("pooler.")}
    save_file(weights, file, metadata={"format": "pt"})
    headless = Encoder.load(conf, device="cpu", precision="float32")
    np.testing.assert_array_equal(headless.encode_texts(["a lake"]), encoder.encode_texts(["a lake"]))
    assert headless.key != encoder.key

    del weights["encoder.layer.3.attention.output.dense.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lacks weights: encoder\.layer\.3\.attention\.output\.dense\.weight"
    ):
        Encoder.load(conf, device="cpu")


def test_a_damaged_file_is_refused(minilm: ModelConf, tmp_path: Path) -> None:
    conf, file = copied(minilm, tmp_path), tmp_path / "model.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[:1000], whole[:-1000], b""):
        file.write_bytes(damaged)
        with pytest.raises(ModelError):
            Encoder.load(conf, device="cpu")


def test_a_config_of_another_size_is_refused(minilm: ModelConf, tmp_path: Path) -> None:
    conf, file = copied(minilm, tmp_path), tmp_path / "config.json"
    whole = json.loads(file.read_text())
    for change, complaint in (
        ({"intermediate_size": 1024}, "cannot be loaded"),
        ({"num_hidden_layers": 7}, "lacks weights"),
        ({"num_hidden_layers": 5}, "holds weights unknown to the model"),
        ({"model_type": "no-such-type"}, "cannot be loaded"),
        ({"model_type": None}, "names no model_type"),
    ):
        file.write_text(json.dumps(whole | change))
        with pytest.raises(ModelError, match=complaint):
            Encoder.load(conf, device="cpu")


def test_a_tokenizer_of_another_model_is_refused(minilm: ModelConf, tmp_path: Path) -> None:
    conf, file = copied(minilm, tmp_path), tmp_path / "tokenizer.json"
    spec = json.loads(file.read_text(encoding="utf-8"))
    spec["model"]["vocab"]["anothertoken"] = 30522
    file.write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(ModelError, match="do not belong together"):
        Encoder.load(conf, device="cpu")
