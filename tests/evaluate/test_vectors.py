import numpy as np
import torch

from pipelines.encoder.fingerprint import resolve_precision
from pipelines.encoder.model import Encoder
from pipelines.evaluate.vectors import encode_texts, load_encoder
from pipelines.progress import Silent
from tests.told import Told


def test_vectors_are_those_of_the_pipeline_in_the_order_of_the_texts(encoder: Encoder) -> None:
    texts = [f"{'a lake ' * (number % 7)} number {number}" for number in range(150)] + [""]
    told = Told()
    x_ND = encode_texts(encoder, texts, "search_query", told, "encoding")
    direct_ND = encoder.encode_ids(encoder.tokenizer.model_inputs(texts, "search_query"))
    assert np.abs(x_ND - direct_ND).max() < 1e-5
    ((label, total, unit),) = told.steps
    assert (label, total, unit) == ("encoding", told.amounts[-1], "tokens")
    assert told.amounts == sorted(told.amounts)


def test_a_long_text_is_cut_where_the_model_is_evaluated(encoder: Encoder) -> None:
    """254 words, since one token stands before them and one after."""
    long, cut, longer = (" ".join(["lake"] * count) for count in (1000, 254, 255))
    x_ND = encode_texts(encoder, [long, cut, longer], "", Silent(), "encoding")
    assert np.abs(x_ND - x_ND[1]).max() < 1e-6
    whole_D = encoder.encode_texts([longer])[0]
    assert np.abs(whole_D - x_ND[1]).max() > 1e-6


def test_the_precision_is_the_model_s_own_where_that_is_asked_for(encoder: Encoder) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    own = load_encoder(encoder.conf, "auto", Silent())
    assert (encoder.precision, own.precision) == ("float32", resolve_precision(encoder.conf, device))


def test_no_texts_are_no_vectors(encoder: Encoder) -> None:
    assert encode_texts(encoder, [], "", Silent(), "encoding").shape == (0, 384)
