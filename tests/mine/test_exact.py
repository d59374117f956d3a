"""Ranks and hard negatives against brute force and by hand."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.mine import consistency
from pipelines.mine.consistency import judge_window
from pipelines.mine.negatives import Miner, known_positives

Vectors = npt.NDArray[np.float32]


def unit(*angles: float) -> Vectors:
    """Vectors of length 1 in the plane, by their angles in degrees."""
    x = np.radians(np.array(angles))
    return np.stack([np.cos(x), np.sin(x)], axis=1).astype(np.float32)


def drawn(count: int, seed: int, dim: int = 6) -> Vectors:
    x = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def test_ranks_by_hand() -> None:
    # Query 0 at 0°: documents at 10°, 5°, 90°, 5° again. Query 1 at 90° has the document at 5°.
    queries, documents = unit(0, 90, 90, 45), unit(10, 5, 90, 5)
    codes = np.array([0, 1, 2, 1])
    found = judge_window(queries, documents, codes, {})
    assert found.rank_N.tolist() == [3, 3, 1, 2]
    # Queries 1 and 2 are one query: its document at 90° does not count against the one at 5°.
    found = judge_window(queries, documents, codes, known_positives(["a", "b", "b", "c"], codes))
    assert found.rank_N.tolist() == [3, 2, 1, 2]
    np.testing.assert_allclose(found.score_N, np.cos(np.radians([10, 85, 0, 40])), atol=1e-6)


@given(count=st.integers(1, 40), texts=st.integers(1, 40), askers=st.integers(1, 40), seed=st.integers(0, 99))
def test_ranks_against_brute_force(count: int, texts: int, askers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, texts, count)
    asker = rng.integers(0, askers, count)
    queries, documents = drawn(askers, seed)[asker], drawn(texts, seed + 1)[codes]
    positives = known_positives([str(number) for number in asker], codes)
    consistency._BLOCK_ELEMENTS, before = 64, consistency._BLOCK_ELEMENTS
    found = judge_window(queries, documents, codes, positives)
    consistency._BLOCK_ELEMENTS = before
    for i in range(count):
        own = {int(codes[j]) for j in range(count) if asker[j] == asker[i]}
        scores = queries[i] @ documents.T
        nearer = [j for j in range(count) if codes[j] not in own and scores[j] > scores[i] + 1e-6]
        assert found.rank_N[i] == 1 + len(nearer)


def mined(
    queries: Vectors,
    documents: Vectors,
    codes: npt.NDArray[np.int64],
    positives: list[set[int]],
    own: Vectors,
    tile: int,
    k: int = 3,
    margin: float | None = None,
) -> list[list[int]]:
    miner = Miner(queries, positives, k, depth=k)
    for start in range(0, len(documents), tile):
        miner.see(documents[start : start + tile], codes[start : start + tile])
    found = miner.negatives(own, margin)
    ends = np.cumsum(found.counts_N)
    return [
        found.codes_M[end - count : end].tolist() for end, count in zip(ends, found.counts_N, strict=True)
    ]


def test_negatives_by_hand() -> None:
    queries = unit(0, 90)
    documents, codes = unit(1, 10, 20, 30, 80, 10), np.array([0, 1, 2, 3, 4, 1])
    own = np.cos(np.radians(np.array([10, 10]))).astype(np.float32)
    positives = [{1}, {4}]
    assert mined(queries, documents, codes, positives, own, tile=2) == [[0, 2, 3], [3, 2, 1]]
    # 95 % of the positive's score is an angle of 20.7°: nearer ones are likely right as well.
    assert mined(queries, documents, codes, positives, own, tile=2, margin=0.95) == [[3], [3, 2, 1]]
    assert mined(queries, documents, codes, [{0, 1, 2, 3}, {4}], own, tile=9) == [[4], [3, 2, 1]]


@given(
    count=st.integers(1, 12),
    texts=st.integers(1, 30),
    tile=st.integers(1, 40),
    k=st.integers(1, 5),
    seed=st.integers(0, 99),
    margin=st.sampled_from([None, 0.95, 0.5]),
)
def test_negatives_against_brute_force(
    count: int, texts: int, tile: int, k: int, seed: int, margin: float | None
) -> None:
    rng = np.random.default_rng(seed)
    queries, by_code = drawn(count, seed), drawn(texts, seed + 1)
    codes = rng.integers(0, texts, 40)  # a text may be in several tiles, and twice in one
    positives = [set(rng.integers(0, texts, rng.integers(1, 4)).tolist()) for _ in range(count)]
    own = np.array([queries[i] @ by_code[min(positives[i])] for i in range(count)], dtype=np.float32)
    found = mined(queries, by_code[codes], codes, positives, own, tile, k, margin)
    for i in range(count):
        assert not set(found[i]) & positives[i], "a positive is among its own negatives"
        scores = by_code @ queries[i]
        others = [int(code) for code in np.argsort(-scores) if code in codes and code not in positives[i]][:k]
        wanted = [code for code in others if margin is None or scores[code] <= margin * own[i]]
        assert found[i] == wanted


def test_no_documents_are_no_negatives() -> None:
    miner = Miner(unit(0, 1), [{0}, {1}], k=2, depth=2)
    found = miner.negatives(np.ones(2, dtype=np.float32), None)
    assert found.counts_N.tolist() == [0, 0]


@pytest.mark.parametrize("queries", [[], ["a", "b"]])
def test_a_query_with_one_document_needs_no_list(queries: list[str]) -> None:
    assert known_positives(queries, np.arange(len(queries))) == {}
