"""Texts to band keys, in Arrow: what each document is looked up by."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from pipelines.dedup.config import NearConfig
from pipelines.dedup.minhash import MinHash
from pipelines.dedup.shingles import offsets_of, shingle

# Texts to their band keys: a list of int64 for each, null where a text has no shingle.
Signer = Callable[[pa.Array], pa.Array]


def signer(config: NearConfig) -> Signer | None:
    """A function from texts to their band keys; None where near duplicates are not looked for."""
    if not config.enabled:
        return None
    minhash = MinHash(config.bands, config.rows)

    def sign(texts: pa.Array) -> pa.Array:
        shingles = shingle(texts, config.shingle_words)
        keys_DB = minhash.band_keys(minhash.signatures(shingles))  # noqa: N806 - shape
        has_keys = np.diff(shingles.offsets) > 0
        offsets = offsets_of(np.where(has_keys, config.bands, 0)).astype(np.int32)
        return pa.ListArray.from_arrays(
            pa.array(offsets), pa.array(keys_DB[has_keys].reshape(-1)), mask=pa.array(~has_keys)
        )

    return sign
