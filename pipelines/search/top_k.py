"""The best k of a stream of vectors, exactly, whatever the order and the size of its batches."""

# ruff: noqa: N803, N806  (tensor names carry their shape: x_ND)

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.encoder.matryoshka import slice_renormalise

# More than a float32 dot product of up to 4,096 coordinates is off: see `TopK`.
_SLACK = 1e-4


@dataclass(frozen=True, order=True)
class Ranked:
    """A chunk in the ranking; sorts best first, equal scores by chunk_id.

    Attributes:
        distance: The negative score, so that ascending order is best first.
        chunk_id: The chunk.
        doc_id: Its document.
        source: The document's source.
    """

    distance: float
    chunk_id: str
    doc_id: str
    source: str


class TopK:
    """Keeps the best k of what it is given.

    BLAS may round a row's dot product differently with the rows beside it, which would break ties at random.
    So it only picks candidates, with some slack; their scores are computed anew, each by itself in float64.

    Attributes:
        k: How many to keep.
        query_d: The query's vector, float32 of length 1, at the dimension to compare in.
        best: The best so far, best first.
    """

    def __init__(self, k: int, query_d: npt.NDArray[np.float32]) -> None:
        self.k = k
        self.query_d = query_d
        self.best: list[Ranked] = []

    def add(
        self,
        x_ND: npt.NDArray[np.float32],
        keys: pa.RecordBatch,
        rough_N: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Takes a batch.

        Args:
            x_ND: Vectors, of the query's dimension or more; those that are not finite never rank.
            keys: chunk_id, doc_id and source of each.
            rough_N: Their scores, as near as float32 has them; None to compute them.
        """
        dim = len(self.query_d)
        if rough_N is None:
            rough_N = _rough_scores(x_ND[:, :dim], self.query_d)
        rows = np.flatnonzero(rough_N >= self._bar(rough_N) - _SLACK)
        scores = exact_scores(x_ND[rows], self.query_d)
        taken = keys.take(pa.array(rows))
        columns = (taken.column(name).to_pylist() for name in ("chunk_id", "doc_id", "source"))
        fresh = (Ranked(-score, *key) for score, *key in zip(scores.tolist(), *columns, strict=True))
        self.best = heapq.nsmallest(self.k, [*self.best, *fresh])

    def _bar(self, rough_N: npt.NDArray[np.float32]) -> float:
        """A score that k rows reach, of those before and of this batch alone."""
        bar = -self.best[-1].distance if len(self.best) == self.k else -np.inf
        finite_N = rough_N[np.isfinite(rough_N)]
        if len(finite_N) > self.k:
            bar = max(bar, float(np.partition(finite_N, -self.k)[-self.k]))
        return float(bar)


def exact_scores(x_ND: npt.NDArray[np.float32], query_d: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosine of each row's slice with the query, in float64, each row by itself.

    Args:
        x_ND: Full vectors.
        query_d: float32 of length 1, at the dimension to compare in.
    """
    x_Nd = slice_renormalise(x_ND, len(query_d)).astype(np.float64)
    scores_N: npt.NDArray[np.float64] = (x_Nd * query_d.astype(np.float64)).sum(axis=1)
    return scores_N


def _rough_scores(x_Nd: npt.NDArray[np.float32], query_d: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    dot_N = x_Nd @ query_d
    norm_N = np.sqrt(np.einsum("nd,nd->n", x_Nd, x_Nd))
    rough_N: npt.NDArray[np.float32] = np.divide(dot_N, norm_N, out=np.zeros_like(dot_N), where=norm_N != 0)
    return rough_N
