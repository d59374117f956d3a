"""Masking, and the step on it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.encoder.conf import TOKENIZER_FILE, load_model_conf, model_folder
from pipelines.errors import ModelError
from pipelines.train.mlm import SequenceBatch, Vocabulary, masked, masked_lm_step, read_vocabulary
from pipelines.train.start import load_masked_lm, starting_point
from pipelines.train.tower import TransformerTower
from pipelines.train.workers import Workers
from tests.train.lakes import masked_lm
from tests.train.towers import gradients

VOCABULARY = Vocabulary(mask_id=103, special_ids=(0, 100, 101, 102, 103), size=30522)


def sequences(count: int, length: int, step: int = 0, first: int = 0) -> SequenceBatch:
    rng = np.random.default_rng(7)
    ids = rng.integers(1000, 30000, (first + count, length))
    ids[:, 0], ids[:, -1] = 101, 102
    return SequenceBatch(step, np.arange(first, first + count), ids[first:])


def test_berts_vocabulary() -> None:
    file = model_folder(load_model_conf("minilm")) / TOKENIZER_FILE
    assert read_vocabulary(file) == VOCABULARY


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    file = model_folder(load_model_conf("minilm")) / TOKENIZER_FILE
    other = tmp_path / TOKENIZER_FILE
    other.write_text(file.read_text().replace("[MASK]", "[HIDE]"))
    with pytest.raises(ModelError, match="no token to mask with"):
        read_vocabulary(other)


def test_shares_of_what_is_masked_replaced_and_left() -> None:
    batch = sequences(200, 512)
    ids_BL, told_BL = masked(batch, 0.3, VOCABULARY, seed=0)
    inner = told_BL[:, 1:-1]
    assert inner.mean() == pytest.approx(0.3, abs=0.005)
    assert not told_BL[:, [0, -1]].any(), "special tokens are never told"
    told, was = ids_BL[told_BL], batch.ids_BL[told_BL]
    assert (told == 103).mean() == pytest.approx(0.8, abs=0.01)
    assert (told == was).mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(ids_BL[~told_BL], batch.ids_BL[~told_BL])


@given(cut=st.integers(0, 6), step=st.integers(0, 3), seed=st.integers(0, 2**32))
def test_a_sequence_is_masked_alike_whoever_has_it(cut: int, step: int, seed: int) -> None:
    whole = masked(sequences(6, 32, step), 0.3, VOCABULARY, seed)
    parts = [
        masked(sequences(count, 32, step, first), 0.3, VOCABULARY, seed)
        for first, count in ((0, cut), (cut, 6 - cut))
    ]
    for which in range(2):
        np.testing.assert_array_equal(np.concatenate([part[which] for part in parts]), whole[which])


def test_every_step_masks_anew() -> None:
    first, second = (masked(sequences(4, 64, step), 0.3, VOCABULARY, 0)[1] for step in (0, 1))
    assert (first != second).any()


def test_the_step_is_transformers_own_loss() -> None:
    recipe = masked_lm()
    start = starting_point(recipe)
    batch = sequences(5, 24)
    found = []
    for batch_tokens in (24, 10_000):
        model = load_masked_lm(recipe, start, torch.device("cpu"))
        tower = TransformerTower(model.nomic_bert, torch.device("cpu"), bfloat16=False)
        loss_1 = masked_lm_step(model, tower, batch, 0.3, VOCABULARY, Workers(), batch_tokens, seed=3)
        found.append((float(loss_1), gradients(model)))
    model = load_masked_lm(recipe, start, torch.device("cpu"))
    ids_BL, told_BL = masked(batch, 0.3, VOCABULARY, seed=3)
    labels = torch.from_numpy(np.where(told_BL, batch.ids_BL, -100))
    loss = model(input_ids=torch.from_numpy(ids_BL), labels=labels).loss
    loss.backward()
    for own, gradient in found:
        assert own == pytest.approx(float(loss.detach()), rel=1e-5)
        for name, wanted in gradients(model).items():
            assert float((gradient[name] - wanted).norm()) <= 1e-5 * float(wanted.norm()), name
