"""Texts to band keys, in Arrow: what each document is looked up by."""

import numpy as np
import pyarrow as pa

from pipelines.curate.config import NearConfig
from pipelines.curate.dedup.minhash import MinHash
from pipelines.curate.dedup.shingles import offsets_of, shingle
from pipelines.curate.records import Signer


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
