"""A model that needs no torch: each row's vector follows from its token ids, so every one can be checked."""
# ruff: noqa: N803  (array names carry their shape: x_N)

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.embed.work.wire import BatchEncoder, Job
from pipelines.encoder.conf import ModelConf, load_model_conf
from pipelines.encoder.encoded import Encoded
from pipelines.encoder.ragged import Ragged
from pipelines.encoder.tokenizer import Tokenizer

DIMENSION = 32

# A row with such a word is poison. Of BERT's vocabulary, each one token, and not in `tests.chunks`.
WORDS = {"raises": "poison", "no vector": "fog", "dies": "venom"}


def model_conf() -> ModelConf:
    """MiniLM's tokenizer under another name, and vectors of 32."""
    return load_model_conf("minilm").model_copy(
        update={
            "name": "faults",
            "dimension": DIMENSION,
            "dimensions": (DIMENSION,),
            "precision": "float32",
        }
    )


def poison_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The token of each poisonous word."""
    found = {}
    for effect, word in WORDS.items():
        (found[effect],) = tokenizer.encode(word)[0]
    return found


def vector_of(ids_L: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """The one right vector of what the model reads."""
    digest = blake2b(np.ascontiguousarray(ids_L, dtype=np.int32).tobytes(), digest_size=8).digest()
    vector = np.random.default_rng(int.from_bytes(digest, "big")).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@dataclass(frozen=True)
class Digests:
    """Makes the model in an encoder's process, and is it.

    Attributes:
        tally: A file that gets a byte whenever a unit is taken up.
        seconds: A unit takes at least so long.
        poison: See `poison_ids`.
        key: The model's; empty before it is loaded.
    """

    tally: Path
    seconds: float
    poison: Mapping[str, int]
    key: str = ""

    def __call__(self, job: Job, device: str, threads: int | None) -> BatchEncoder:
        return Digests(self.tally, self.seconds, self.poison, job.model.key)

    def encode(self, rows: Ragged, batch_tokens: int | None) -> Encoded:
        """Fails as a model may: by raising, by a vector of no use, or by the end of its process."""
        with self.tally.open("ab") as tally:
            tally.write(b".")
        time.sleep(self.seconds)
        vectors_ND = np.empty((len(rows), DIMENSION), dtype=np.float32)
        for number, ids_L in enumerate(rows):
            if (ids_L == self.poison["dies"]).any():
                os.kill(os.getpid(), signal.SIGKILL)
            if (ids_L == self.poison["raises"]).any():
                raise ValueError("this row cannot be encoded")
            vectors_ND[number] = vector_of(ids_L)
            if (ids_L == self.poison["no vector"]).any():
                vectors_ND[number, 0] = np.nan
        return Encoded(vectors_ND, len(rows.values_T), len(rows.values_T))
