import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.encoder.quantise import VectorType, encode, hamming
from pipelines.errors import ConfigError, ModelError
from pipelines.evaluate.rank import KINDS, Kind, as_stored, best_rows, check_kinds, rank, searched_bytes

Matrix = npt.NDArray[np.float32]


def vectors(rows: int, dim: int, seed: int, distinct: int | None = None) -> Matrix:
    """Rows of length 1, of which only so many are distinct."""
    x_ND = np.random.default_rng(seed).standard_normal((distinct or rows, dim)).astype(np.float32)
    x_ND = x_ND[np.arange(rows) % len(x_ND)]
    return np.asarray(x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True), dtype=np.float32)


@settings(max_examples=60)
@given(
    rows=st.integers(1, 60),
    distinct=st.integers(1, 60),
    k=st.integers(1, 70),
    block=st.integers(1, 70),
    kind=st.sampled_from(KINDS),
    dim=st.sampled_from([8, 16, 24]),
    seed=st.integers(0, 999),
)
def test_a_ranking_does_not_depend_on_blocks_and_equal_documents_come_in_order(
    rows: int, distinct: int, k: int, block: int, kind: Kind, dim: int, seed: int
) -> None:
    documents_ND, queries_QD = vectors(rows, 24, seed, distinct), vectors(3, 24, seed + 1)
    ranking = rank(documents_ND, queries_QD, kind, dim, k, shortlist=5, block=block)
    whole = rank(documents_ND, queries_QD, kind, dim, k, shortlist=5)
    assert (ranking.rows_QK == whole.rows_QK).all()
    assert (ranking.scores_QK == whole.scores_QK).all()
    assert ranking.rows_QK.shape == (3, min(k, rows))
    for rows_K, scores_K in zip(ranking.rows_QK, ranking.scores_QK, strict=True):
        assert len(set(rows_K.tolist())) == len(rows_K)
        assert list(zip(-scores_K, rows_K, strict=True)) == sorted(zip(-scores_K, rows_K, strict=True))


@settings(max_examples=30)
@given(dim=st.integers(1, 32), seed=st.integers(0, 999))
def test_float32_is_the_order_of_cosines(dim: int, seed: int) -> None:
    documents_ND, queries_QD = vectors(40, 32, seed), vectors(4, 32, seed + 1)
    ranking = rank(documents_ND, queries_QD, "float32", dim, 40)
    for query_D, rows_K, scores_K in zip(queries_QD, ranking.rows_QK, ranking.scores_QK, strict=True):
        a_Nd, b_d = documents_ND[rows_K, :dim].astype(np.float64), query_D[:dim].astype(np.float64)
        cosines = a_Nd @ b_d / np.linalg.norm(a_Nd, axis=1) / np.linalg.norm(b_d)
        assert scores_K == pytest.approx(cosines, abs=1e-6)


@settings(max_examples=30)
@given(dim=st.sampled_from([8, 16, 64]), seed=st.integers(0, 999))
def test_binary_is_the_order_of_hamming_distances(dim: int, seed: int) -> None:
    documents_ND, queries_QD = vectors(40, 64, seed), vectors(4, 64, seed + 1)
    ranking = rank(documents_ND, queries_QD, "binary", dim, 40)
    codes_NB, _ = encode(documents_ND[:, :dim], "binary")
    asked_QB, _ = encode(queries_QD[:, :dim], "binary")
    for code_B, rows_K, scores_K in zip(asked_QB, ranking.rows_QK, ranking.scores_QK, strict=True):
        distances_N = hamming(codes_NB, code_B)
        assert rows_K.tolist() == np.argsort(distances_N, kind="stable").tolist()
        assert scores_K == pytest.approx(1 - 2 * distances_N[rows_K] / dim, abs=1e-6)


def test_a_shortlist_of_all_documents_is_ranked_as_float32() -> None:
    documents_ND, queries_QD = vectors(50, 32, 1), vectors(5, 32, 2)
    reranked = rank(documents_ND, queries_QD, "binary+rerank", 16, 10, shortlist=50)
    exact = rank(documents_ND, queries_QD, "float32", 16, 10)
    assert (reranked.rows_QK == exact.rows_QK).all()
    assert (reranked.scores_QK == exact.scores_QK).all()


def test_a_shortlist_holds_what_binary_codes_rank_highest() -> None:
    documents_ND, queries_QD = vectors(50, 32, 3), vectors(5, 32, 4)
    reranked = rank(documents_ND, queries_QD, "binary+rerank", 32, 10, shortlist=10)
    binary = rank(documents_ND, queries_QD, "binary", 32, 10)
    assert (np.sort(reranked.rows_QK) == np.sort(binary.rows_QK)).all()


@pytest.mark.parametrize(("kind", "nearness"), [("float32", 1.0), ("float16", 0.99999), ("int8", 0.999)])
def test_what_is_stored_is_near_what_was_given(kind: VectorType, nearness: float) -> None:
    x_ND = vectors(20, 64, 5)
    assert (x_ND * as_stored(x_ND, kind, 64)).sum(axis=1).min() >= nearness - 1e-6


def test_without_documents_nothing_is_found() -> None:
    ranking = rank(vectors(0, 8, 0, 1), vectors(2, 8, 1), "float32", 8, 3)
    assert ranking.rows_QK.shape == ranking.scores_QK.shape == (2, 0)


def test_the_highest_come_first_and_equal_ones_by_place() -> None:
    assert best_rows(np.array([1.0, 3.0, 2.0, 3.0, 2.0]), 3).tolist() == [1, 3, 2]
    assert best_rows(np.array([1.0]), 3).tolist() == [0]


def test_what_a_search_goes_through_is_the_code_alone() -> None:
    assert [searched_bytes(kind, 64) for kind in KINDS] == [256, 128, 68, 8, 8]


def test_a_code_that_is_not_whole_bytes_is_refused_before_anything_is_done() -> None:
    check_kinds(("float32",), (12,))
    with pytest.raises(ConfigError, match="multiple of 8"):
        check_kinds(("float32", "binary+rerank"), (16, 12))


def test_a_slice_longer_than_the_vectors_is_refused() -> None:
    with pytest.raises(ModelError, match="no slice of 9"):
        rank(vectors(2, 8, 0), vectors(2, 8, 1), "float32", 9, 1)
