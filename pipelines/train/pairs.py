"""A worker's share of a batch of pairs, as token ids."""
# ruff: noqa: N815  (array names carry their shape: x_N)

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.encoder.ragged import Ragged

Int64s = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PairBatch:
    """n pairs with m hard negatives in all, of one source.

    Attributes:
        step: Of the run, from 0.
        source: All rows' own, or `source/cluster`.
        queries: n rows, whole model inputs.
        documents: n rows.
        negatives: m rows.
        query_hash_n: int64, equal for equal texts, as are the next two.
        document_hash_n: int64.
        negative_hash_m: int64.
        guide_query_nG: float32, the guide's vectors; None without one, as are the next two.
        guide_document_nG: float32.
        guide_negative_mG: float32.
    """

    step: int
    source: str
    queries: Ragged
    documents: Ragged
    negatives: Ragged
    query_hash_n: Int64s
    document_hash_n: Int64s
    negative_hash_m: Int64s
    guide_query_nG: Vectors | None = None
    guide_document_nG: Vectors | None = None
    guide_negative_mG: Vectors | None = None

    @property
    def rows(self) -> Ragged:
        """Queries, documents and negatives, one after the other."""
        return Ragged.joined([self.queries, self.documents, self.negatives])

    @property
    def tokens(self) -> int:
        """Of all texts, specials and prefixes included."""
        return sum(len(side.values_T) for side in (self.queries, self.documents, self.negatives))
