"""The baseline that knows no model: BM25 over stemmed English words."""
# ruff: noqa: N806  (array names carry their shape: scores_N)

from collections.abc import Sequence

import bm25s
import numpy as np
import Stemmer

from pipelines.evaluate.rank import best_rows


def bm25_rankings(
    documents: Sequence[str], queries: Sequence[str], k: int, *, k1: float, b: float
) -> list[list[int]]:
    """The best documents of each query by BM25, as Lucene computes it.

    Args:
        documents: Their texts; at least one.
        queries: Their texts.
        k: Most documents of a query.
        k1: How soon a word's repetitions stop to count.
        b: How much a document's length counts, 0 to 1.

    Returns:
        Places of documents by query, best first, equal scores by place; only those that share a word with it.
    """
    words = _words(documents)
    if not any(words):  # the library fails on a corpus without words
        return [[] for _ in queries]
    index = bm25s.BM25(k1=k1, b=b)
    index.index(words, show_progress=False)
    rankings = []
    for query in _words(queries):
        known = [word for word in query if word in index.vocab_dict]
        scores_N = index.get_scores(known) if known else np.zeros(len(documents))
        rankings.append([int(row) for row in best_rows(scores_N, k) if scores_N[row] > 0])
    return rankings


def _words(texts: Sequence[str]) -> list[list[str]]:
    words: list[list[str]] = bm25s.tokenize(
        list(texts),
        stopwords="english",
        stemmer=Stemmer.Stemmer("english"),
        return_ids=False,
        show_progress=False,
    )
    return words
