"""The streaming ranking against sorting everything at once."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.encoder.matryoshka import slice_renormalise
from pipelines.search.top_k import TopK, exact_scores


def _keys(ids: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"chunk_id": list(ids), "doc_id": list(ids), "source": ["s"] * len(ids)}
    )


def _ranking(
    vectors: npt.NDArray[np.float32], ids: list[str], query: npt.NDArray[np.float32], k: int, cuts: list[int]
) -> list[tuple[str, float]]:
    top = TopK(k, query)
    edges = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    for start, stop in pairwise(edges):
        top.add(vectors[start:stop], _keys(ids[start:stop]))
    return [(rank.chunk_id, -rank.distance) for rank in top.best]


@given(
    rows=st.integers(0, 60),
    distinct=st.integers(1, 8),
    k=st.integers(1, 70),
    dim=st.sampled_from([4, 16, 64]),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_best_k_are_those_of_a_full_sort_whatever_the_batches(
    rows: int, distinct: int, k: int, dim: int, cuts: list[int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    pool = slice_renormalise(random.normal(size=(distinct, 64)).astype(np.float32), 64)
    vectors = pool[random.integers(0, distinct, rows)] if rows else np.empty((0, 64), np.float32)
    ids = [f"{number:03d}" for number in random.permutation(rows)]
    query = slice_renormalise(random.normal(size=(1, 64)).astype(np.float32), dim)[0]
    scores = exact_scores(vectors, query)
    expected = sorted(zip(ids, scores.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))[:k]
    assert _ranking(vectors, ids, query, k, cuts) == expected


def test_equal_vectors_tie_whatever_stands_beside_them() -> None:
    random = np.random.default_rng(7)
    vectors = slice_renormalise(random.normal(size=(1000, 384)).astype(np.float32), 384)
    vectors[::7] = vectors[0]
    query = slice_renormalise(random.normal(size=(1, 384)).astype(np.float32), 128)[0]
    assert len(set(exact_scores(vectors, query)[::7].tolist())) == 1


def test_vectors_that_are_not_finite_or_zero_do_not_disturb_the_ranking() -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = np.nan
    vectors[2] = 0
    query = np.array([0.8, 0, 0, 0.6], dtype=np.float32)
    ranking = _ranking(vectors, ["a", "nan", "zero", "b"], query, 4, [])
    assert [chunk_id for chunk_id, _ in ranking] == ["a", "b", "zero"]
    assert [score for _, score in ranking] == pytest.approx([0.8, 0.6, 0.0])
