"""One real model for all tests of the stage, and a lake with chunks for each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipelines.encoder.conf import ModelConf, load_model_conf
from pipelines.encoder.encoded import Encoded
from pipelines.encoder.model import Encoder, Row
from pipelines.encoder.ragged import Ragged
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.lake import Lake, LakeConfig
from tests.chunks import append_chunks, corpus


class Remembering(Encoder):
    """A model that computes a row once: nearly all tests embed the same 60 chunks, one or a few at a time."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._known: dict[bytes, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}

    def encode(self, rows: Sequence[Row] | Ragged, batch_tokens: int | None = None) -> Encoded:
        """As the model does."""
        joined = Ragged.of(rows)
        keys = [row.tobytes() for row in joined]
        new = [at for at, key in enumerate(keys) if key not in self._known]
        if new or not keys:
            encoded = super().encode(joined.take(np.array(new, dtype=np.int64)), batch_tokens)
            if len(new) == len(keys):
                self._known.update(zip(keys, encoded.vectors_ND, strict=True))
                return encoded
            self._known.update((keys[at], vector) for at, vector in zip(new, encoded.vectors_ND, strict=True))
        tokens = len(joined.values_T)
        return Encoded(np.stack([self._known[key] for key in keys]), tokens, tokens)


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
    return Remembering.load(conf, device="cpu", threads=1)


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
