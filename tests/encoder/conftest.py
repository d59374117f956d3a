"""The packaged model, loaded once in each precision."""

import pytest

from pipelines.encoder.conf import ModelConf, load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.encoder.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def minilm() -> ModelConf:
    return load_model_conf("minilm")


@pytest.fixture(scope="session")
def tokenizer(minilm: ModelConf) -> Tokenizer:
    return Tokenizer.load(minilm)


@pytest.fixture(scope="session")
def encoder(minilm: ModelConf) -> Encoder:
    """MiniLM in float32, and torch on one thread: two would wait for each other where the cores are busy."""
    return Encoder.load(minilm, device="cpu", precision="float32", threads=1)
