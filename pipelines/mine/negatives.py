"""The documents nearest to a query that are none of its own: top-k by tiles, exactly. Pure."""
# ruff: noqa: N803, N806, N815  (array names carry their shape: x_ND)

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]

# Queries that are compared with a tile at once.
_QUERY_ROWS = 16_384


@dataclass(frozen=True)
class Negatives:
    """Of N queries, each's hard negatives, nearest first.

    Attributes:
        counts_N: int64, how many each has.
        codes_M: int64, of all, one query's after the other.
        scores_M: float32, their inner products with the query.
    """

    counts_N: Int64s
    codes_M: Int64s
    scores_M: Vectors


class Miner:
    """Holds some queries' best documents while tiles of the corpus go by.

    Attributes:
        k: Most hard negatives of a query.
        depth: How many of the nearest are looked at for them.
    """

    def __init__(self, query_ND: Vectors, positives: Sequence[Iterable[int]], k: int, depth: int) -> None:
        """Begins with no documents seen.

        Args:
            query_ND: Normalised vectors.
            positives: Of each query, the codes of all its documents.
            k: Most hard negatives of a query.
            depth: So many of the nearest documents beside positives are looked at; those that the margin
                leaves of them are the negatives. At least k.
        """
        self.k, self.depth = k, depth
        self._query_ND = np.ascontiguousarray(query_ND, dtype=np.float32)
        self._positives = [set(codes) for codes in positives]
        most = max((len(codes) for codes in self._positives), default=0)
        self._room = depth + most  # positives are among the best, and are taken out at the end
        count = len(query_ND)
        self._score_NK = np.full((count, self._room), -np.inf, dtype=np.float32)
        self._code_NK = np.full((count, self._room), -1, dtype=np.int64)

    def see(self, document_TD: Vectors, code_T: Int64s) -> None:
        """A tile of the corpus; a document that was in an earlier one, by its code, may come again.

        Args:
            document_TD: Normalised vectors.
            code_T: Equal for equal documents, in all tiles.
        """
        code_T, first = np.unique(code_T, return_index=True)
        document_TD = np.ascontiguousarray(document_TD[first], dtype=np.float32)
        k = min(self._room, len(code_T))
        if not k:
            return
        for start in range(0, len(self._query_ND), _QUERY_ROWS):
            rows = slice(start, start + _QUERY_ROWS)
            score_Bk, at_Bk = faiss.knn(
                self._query_ND[rows], document_TD, k, metric=faiss.METRIC_INNER_PRODUCT
            )
            self._merge(rows, score_Bk, code_T[at_Bk])

    def _merge(self, rows: slice, score_Bk: Vectors, code_Bk: Int64s) -> None:
        score_BA = np.concatenate((self._score_NK[rows], score_Bk), axis=1)
        code_BA = np.concatenate((self._code_NK[rows], code_Bk), axis=1)
        # By score and then by code, so that the order of tiles is no matter.
        order_BA = np.lexsort((code_BA, -score_BA), axis=1)
        score_BA = np.take_along_axis(score_BA, order_BA, axis=1)
        code_BA = np.take_along_axis(code_BA, order_BA, axis=1)
        score_BA[_seen_before(code_BA) & (code_BA >= 0)] = -np.inf
        order_BA = np.argsort(-score_BA, axis=1, kind="stable")[:, : self._room]
        self._score_NK[rows] = np.take_along_axis(score_BA, order_BA, axis=1)
        self._code_NK[rows] = np.take_along_axis(code_BA, order_BA, axis=1)

    def negatives(self, score_N: Vectors, margin: float | None) -> Negatives:
        """The best of what was seen, without any positive.

        Args:
            score_N: Of each query with its own document.
            margin: Share of that score above which a candidate is likely a positive that nobody has marked
                (arXiv 2407.15831); None keeps all.
        """
        kept: list[Int64s] = []
        scores: list[Vectors] = []
        for row, own in enumerate(self._positives):
            other_K = np.isfinite(self._score_NK[row]) & ~np.isin(self._code_NK[row], list(own))
            code_K = self._code_NK[row][other_K][: self.depth]
            score_K = self._score_NK[row][other_K][: self.depth]
            good_K = np.ones(len(code_K), dtype=np.bool_)
            if margin is not None:
                good_K = score_K <= margin * score_N[row]
            kept.append(code_K[good_K][: self.k])
            scores.append(score_K[good_K][: self.k])
        return Negatives(
            np.array([len(codes) for codes in kept], dtype=np.int64),
            np.concatenate(kept) if kept else np.empty(0, dtype=np.int64),
            np.concatenate(scores) if scores else np.empty(0, dtype=np.float32),
        )


def _seen_before(code_BA: Int64s) -> npt.NDArray[np.bool_]:
    """True for a code that stands further left in its row."""
    order_BA = np.argsort(code_BA, axis=1, kind="stable")
    sorted_BA = np.take_along_axis(code_BA, order_BA, axis=1)
    repeated_BA = np.zeros(code_BA.shape, dtype=np.bool_)
    repeated_BA[:, 1:] = sorted_BA[:, 1:] == sorted_BA[:, :-1]
    found_BA = np.zeros(code_BA.shape, dtype=np.bool_)
    np.put_along_axis(found_BA, order_BA, repeated_BA, axis=1)
    return found_BA


def known_positives(queries: Sequence[str], codes: Int64s) -> Mapping[int, Sequence[int]]:
    """Of places whose query stands at several, the codes of all that query's documents.

    Args:
        queries: Equal for equal queries.
        codes: Of their documents.
    """
    by_query: dict[str, list[int]] = {}
    for at, query in enumerate(queries):
        by_query.setdefault(query, []).append(at)
    return {
        at: [int(codes[other]) for other in places]
        for places in by_query.values()
        if len(places) > 1
        for at in places
    }
