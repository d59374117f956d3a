"""The nearest documents of queries, exactly, by vectors as they would be stored.

Documents are stored in the type; queries are float32, as they come from the encoder, except that binary
codes are compared with the query's own code. Scores are cosines in float64, rounded: BLAS rounds a row with
the rows beside it, and equal documents would else be in any order.
"""
# ruff: noqa: N803, N806, N815  (array names carry their shape: x_ND)

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from pipelines.encoder.matryoshka import slice_renormalise
from pipelines.encoder.quantise import VectorType, bytes_per_vector, decode, encode
from pipelines.encoder.rotation import mixing

Kind = VectorType | Literal["binary+rerank"]
KINDS: tuple[Kind, ...] = (*get_args(VectorType), "binary+rerank")

_DECIMALS = 9  # float64 products of lengths up to 4,096 are off by less than 1e-12
_BLOCK = 8192  # documents whose scores are in memory at once; with 1,000 queries they are 64 MiB


@dataclass(frozen=True)
class Ranking:
    """The best documents of each query, best first.

    Attributes:
        rows_QK: int64, rows of the documents; equal scores by row.
        scores_QK: float64 cosines. Of binary codes: of their signs, 1 - 2 x Hamming distance / dimension.
    """

    rows_QK: npt.NDArray[np.int64]
    scores_QK: npt.NDArray[np.float64]


def searched_bytes(kind: Kind, dim: int) -> int:
    """Bytes of a document that a search goes through; `binary+rerank` reads its shortlist's float32 besides.

    Raises:
        ConfigError: Binary codes of this dimension would not be whole bytes.
    """
    return bytes_per_vector("binary" if kind == "binary+rerank" else kind, dim)


def as_stored(x_ND: npt.NDArray[np.float32], kind: VectorType, dim: int) -> npt.NDArray[np.float32]:
    """What comes back of vectors that were sliced and stored.

    Args:
        x_ND: Full vectors.
        kind: The type they are stored in.
        dim: The dimension they are sliced to.

    Returns:
        x_Nd float32 with rows of length 1.

    Raises:
        ConfigError: Binary codes of this dimension would not be whole bytes.
        ModelError: The vectors have no slice of this dimension.
    """
    stored_NB, scale_N = encode(slice_renormalise(x_ND, dim), kind)
    return slice_renormalise(decode(stored_NB, kind, dim, scale_N), dim)


def mixed(
    documents_ND: npt.NDArray[np.float32], queries_QD: npt.NDArray[np.float32], dim: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Both with the first `dim` coordinates mixed, as `publish --rotate` has them before it takes signs."""
    turn = mixing(documents_ND.shape[1], dim)
    return turn.apply(documents_ND), turn.apply(queries_QD)


def rank(
    documents_ND: npt.NDArray[np.float32],
    queries_QD: npt.NDArray[np.float32],
    kind: Kind,
    dim: int,
    k: int,
    *,
    shortlist: int = 100,
    block: int = _BLOCK,
) -> Ranking:
    """The k nearest documents of each query.

    Args:
        documents_ND: Full vectors.
        queries_QD: Full vectors.
        kind: How the documents are stored. `binary+rerank` takes a shortlist by binary codes and ranks that
            by the float32 vectors of the same dimension.
        dim: The dimension both are sliced to.
        k: How many of each query; all where there are fewer documents.
        shortlist: Of `binary+rerank`; k if that is more.
        block: Documents whose scores are in memory at once.

    Raises:
        ConfigError: Binary codes of this dimension would not be whole bytes.
        ModelError: The vectors have no slice of this dimension.
    """
    if kind == "binary+rerank":
        chosen = rank(documents_ND, queries_QD, "binary", dim, max(k, shortlist), block=block)
        return _reranked(documents_ND, queries_QD, chosen, dim, k)
    queries_Qd = as_stored(queries_QD, "binary" if kind == "binary" else "float32", dim).astype(np.float64)
    queries = len(queries_Qd)
    best = Ranking(np.empty((queries, 0), dtype=np.int64), np.empty((queries, 0)))
    for rows in _blocks(len(documents_ND), block):
        documents_nd = as_stored(documents_ND[rows], kind, dim).astype(np.float64)
        scores_Qn = (queries_Qd @ documents_nd.T).round(_DECIMALS)
        best = _best(
            np.hstack([best.rows_QK, np.broadcast_to(np.arange(rows.start, rows.stop), scores_Qn.shape)]),
            np.hstack([best.scores_QK, scores_Qn]),
            k,
        )
    return best


def check_kinds(kinds: tuple[Kind, ...], dims: tuple[int, ...]) -> None:
    """Refuses, before anything is encoded, what could not be stored.

    Raises:
        ConfigError: Binary codes of one of the dimensions would not be whole bytes.
    """
    for kind in kinds:
        for dim in dims:
            searched_bytes(kind, dim)


def best_rows(scores_N: npt.NDArray[np.floating], k: int) -> npt.NDArray[np.int64]:
    """The places of the k highest scores, highest first, equal ones by place."""
    k = min(k, len(scores_N))
    if k == 0:
        return np.empty(0, dtype=np.int64)
    bar = np.partition(scores_N, -k)[-k]
    reach = np.flatnonzero(scores_N >= bar)  # k of them, and those that are equal to the last
    return reach[np.argsort(-scores_N[reach], kind="stable")][:k]


def _blocks(count: int, block: int) -> Iterator[slice]:
    for start in range(0, count, block):
        yield slice(start, min(start + block, count))


def _best(rows_QM: npt.NDArray[np.int64], scores_QM: npt.NDArray[np.float64], k: int) -> Ranking:
    """The best k of each query; `rows_QM` of equal scores must ascend, as best before and new ones do."""
    picked_QK = np.array([best_rows(scores_M, k) for scores_M in scores_QM], dtype=np.int64)
    picked_QK = picked_QK.reshape(len(scores_QM), min(k, scores_QM.shape[1]))
    return Ranking(
        np.take_along_axis(rows_QM, picked_QK, axis=1), np.take_along_axis(scores_QM, picked_QK, axis=1)
    )


def _reranked(
    documents_ND: npt.NDArray[np.float32],
    queries_QD: npt.NDArray[np.float32],
    chosen: Ranking,
    dim: int,
    k: int,
) -> Ranking:
    queries_Qd = as_stored(queries_QD, "float32", dim).astype(np.float64)
    rows_QS = np.sort(chosen.rows_QK, axis=1)  # so that equal scores come by row
    scores_QS = np.empty(rows_QS.shape)
    for query_d, rows_S, scores_S in zip(queries_Qd, rows_QS, scores_QS, strict=True):
        scores_S[:] = as_stored(documents_ND[rows_S], "float32", dim).astype(np.float64) @ query_d
    return _best(rows_QS, scores_QS.round(_DECIMALS), k)
