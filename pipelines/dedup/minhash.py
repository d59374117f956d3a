"""MinHash signatures and their bands (Broder 1997; Leskovec, Rajaraman, Ullman, ch. 3)."""

import numpy as np
import numpy.typing as npt

from pipelines.dedup.shingles import Shingles, UInt64s, mix

# Shingles that are hashed at once: with their hashes 1 MB, which stays in a core's cache.
_BLOCK = 1 << 16
_SEED = 0x656D6265646C616B  # the signatures in a lake are made with it: another one makes others


class MinHash:
    """A family of `bands * rows` hash functions, the same in every process and version.

    Two sets of Jaccard similarity J share a band with probability J**rows, and any band with
    1 - (1 - J**rows)**bands.
    """

    def __init__(self, bands: int, rows: int) -> None:
        self.bands, self.rows = bands, rows
        numbers = mix(np.uint64(_SEED) + np.arange(2 * bands * rows, dtype=np.uint64))
        # Multiply-shift (Dietzfelbinger et al. 1997): the upper half of a * x + b, with a odd.
        self._factors = numbers[: bands * rows] | np.uint64(1)
        self._addends = numbers[bands * rows :]

    def signatures(self, shingles: Shingles) -> npt.NDArray[np.uint32]:
        """The smallest value of each function over each document's shingles.

        Returns:
            x_DP, uint32; the row of a document without shingles is all ones.
        """
        signature = np.full((len(self._factors), len(shingles)), 0xFFFFFFFF, np.uint32)
        documents = np.flatnonzero(np.diff(shingles.offsets))
        starts = shingles.offsets[documents]
        ends = shingles.offsets[documents + 1]
        first = 0
        while first < len(documents):
            last = int(np.searchsorted(ends, starts[first] + _BLOCK, side="right"))
            last = max(last, first + 1)
            self._block(shingles.hashes, starts[first:last], ends[last - 1], signature, documents[first:last])
            first = last
        return signature.T

    def band_keys(self, signature_DP: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:  # noqa: N803 - shape
        """A key per band: documents with the same key agree in all rows of that band.

        Returns:
            x_DB, int64. The band's number is part of the key, so keys of different bands differ.
        """
        rows = signature_DP.reshape(len(signature_DP), self.bands, self.rows)
        keys: UInt64s = np.broadcast_to(np.arange(self.bands, dtype=np.uint64), rows.shape[:2]).copy()
        for at in range(self.rows):
            keys = mix(keys ^ rows[:, :, at])
        return keys.view(np.int64)

    def _block(
        self,
        hashes: UInt64s,
        starts: npt.NDArray[np.int64],
        end: int,
        signature: npt.NDArray[np.uint32],
        documents: npt.NDArray[np.int64],
    ) -> None:
        block = hashes[starts[0] : end]
        places = starts - starts[0]
        values = np.empty_like(block)
        for at, (factor, addend) in enumerate(zip(self._factors, self._addends, strict=True)):
            np.multiply(block, factor, out=values)
            values += addend
            signature[at, documents] = np.minimum.reduceat(values, places) >> np.uint64(32)
