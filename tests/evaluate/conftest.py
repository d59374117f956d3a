"""The packaged model in float32, and Cranfield encoded by it, once each."""

from pathlib import Path

import pytest

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.evaluate.beir import Dataset, read_dataset
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.retrieval import Vectors, encode_dataset
from pipelines.evaluate.vectors import load_encoder
from pipelines.progress import Silent


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return load_encoder(load_model_conf("minilm"), EvaluateConfig().precision, Silent())


@pytest.fixture(scope="session")
def cranfield(shared: Path) -> Dataset:
    folder = shared / "data" / "cranfield"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    return read_dataset(folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels.tsv")


@pytest.fixture(scope="session")
def cranfield_vectors(cranfield: Dataset, encoder: Encoder) -> Vectors:
    return encode_dataset(encoder, cranfield, EvaluateConfig(), Silent())
