"""One real model for all tests of the stage, and a lake with chunks for each."""

import pytest

from pipelines.encoder.conf import ModelConf, load_model_conf
from pipelines.encoder.model import Encoder
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake, LakeConfig
from tests.chunks import append_chunks, corpus


@pytest.fixture(scope="session")
def conf() -> ModelConf:
    """MiniLM."""
    return load_model_conf("minilm")


@pytest.fixture(scope="session")
def tokenizer(conf: ModelConf) -> Tokenizer:
    """Its tokenizer."""
    return Tokenizer.load(conf)


@pytest.fixture(scope="session")
def encoder(conf: ModelConf) -> Encoder:
    """Itself, on one thread: two wait for each other where a core is busy elsewhere."""
    return Encoder.load(conf, device="cpu", threads=1)


@pytest.fixture
def lake(local_config: LakeConfig, tokenizer: Tokenizer) -> Lake:
    """A local lake with 60 chunks in 9 files and 4 partitions."""
    return _with_chunks(local_config, tokenizer)


@pytest.fixture
def any_lake(lake_config: LakeConfig, tokenizer: Tokenizer) -> Lake:
    """The same, once local and once on S3 with a REST catalogue."""
    return _with_chunks(lake_config, tokenizer)


@pytest.fixture
def s3_lake(s3_config: LakeConfig, tokenizer: Tokenizer) -> Lake:
    """The same on S3 with a REST catalogue."""
    return _with_chunks(s3_config, tokenizer)


def _with_chunks(config: LakeConfig, tokenizer: Tokenizer) -> Lake:
    lake = Lake.open(config)
    append_chunks(lake, corpus(30), tokenizer, rows_per_file=8)
    return lake
