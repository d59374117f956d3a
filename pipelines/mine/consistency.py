"""Whether a query finds its own document: its rank among the documents of a window, exactly. Pure."""
# ruff: noqa: N803, N806, N815  (array names carry their shape: x_ND)

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Vectors = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]

_BLOCK_ELEMENTS = 2**24  # similarities at once: 64 MB
# Equal texts have equal vectors, and their scores differ by the order of sums alone.
_EQUAL = 1e-6


@dataclass(frozen=True)
class Judgements:
    """What became of a window's N pairs.

    Attributes:
        rank_N: int64, of the own document for its query, from 1: one more than the documents nearer to it
            that are no positive of the query.
        score_N: float32, inner product of query and own document.
    """

    rank_N: Int64s
    score_N: Vectors


def judge_window(
    query_ND: Vectors,
    document_ND: Vectors,
    code_N: Int64s,
    positives: Mapping[int, Sequence[int]],
    device: str = "cpu",
) -> Judgements:
    """Ranks each query's own document among all documents of the window by exact inner product.

    Memory: the vectors and a block of similarities, whatever N.

    Args:
        query_ND: Normalised vectors of the queries.
        document_ND: Of their documents.
        code_N: Equal for equal documents.
        positives: Of queries with several: by place, the codes of all their documents, the own one among
            them. They do not count against each other.
        device: As torch names them.
    """
    total = len(query_ND)
    rank_N, score_N = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.float32)
    documents_DN = torch.from_numpy(document_ND).to(device).T
    places = _places(code_N, positives)
    size = max(1, _BLOCK_ELEMENTS // max(1, total))
    for start in range(0, total, size):
        rows = slice(start, min(start + size, total))
        near_BN = torch.from_numpy(query_ND[rows]).to(device) @ documents_DN
        own_B = near_BN[torch.arange(near_BN.shape[0]), torch.arange(rows.start, rows.stop)]
        nearer_BN = near_BN > own_B[:, None] + _EQUAL
        for at in range(rows.start, rows.stop):
            if at in places:
                nearer_BN[at - start, torch.from_numpy(places[at]).to(device)] = False
        rank_N[rows] = 1 + nearer_BN.sum(dim=1).cpu().numpy()
        score_N[rows] = own_B.cpu().numpy()
    return Judgements(rank_N, score_N)


def _places(code_N: Int64s, positives: Mapping[int, Sequence[int]]) -> dict[int, Int64s]:
    """Of queries with several positives, where all these stand in the window."""
    if not positives:
        return {}
    order_N = np.argsort(code_N, kind="stable")
    sorted_N = code_N[order_N]
    found = {}
    for query, codes in positives.items():
        wanted = np.asarray(sorted(set(codes)), dtype=np.int64)
        first, last = (np.searchsorted(sorted_N, wanted, side=side) for side in ("left", "right"))
        found[query] = np.concatenate([order_N[a:b] for a, b in zip(first, last, strict=True)])
    return found
