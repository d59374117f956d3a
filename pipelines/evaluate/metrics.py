"""Scores of rankings, as trec_eval computes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytrec_eval

Judgements = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Sequence[str]]

CUT, DEPTH = 10, 100  # documents of a ranking that nDCG and MRR look at, and that recall does


@dataclass(frozen=True)
class Scores:
    """Means over the queries that have judgements.

    Attributes:
        ndcg: nDCG@10, a gain linear in the grade.
        recall: recall@100.
        mrr: Reciprocal rank of the first relevant document among ten, else 0.
    """

    ndcg: float
    recall: float
    mrr: float


def score(judgements: Judgements, run: Run) -> Scores:
    """Scores a ranking of each query.

    Args:
        judgements: Grades by document by query; above 0 is relevant. A document that no ranking can hold,
            being absent from the corpus, counts in the ideal ranking and in recall all the same, as in
            trec_eval.
        run: Documents by query, best first; for every query of the judgements, maybe none.

    Returns:
        The means; zeros without queries.
    """
    graded = {query: dict(grades) for query, grades in judgements.items()}
    far = pytrec_eval.RelevanceEvaluator(graded, {f"ndcg_cut.{CUT}", f"recall.{DEPTH}"})
    near = pytrec_eval.RelevanceEvaluator(graded, {"recip_rank"})
    at_depth = far.evaluate({query: _descending(run[query][:DEPTH]) for query in graded})
    at_cut = near.evaluate({query: _descending(run[query][:CUT]) for query in graded})
    return Scores(
        ndcg=_mean([at_depth[query][f"ndcg_cut_{CUT}"] for query in graded]),
        recall=_mean([at_depth[query][f"recall_{DEPTH}"] for query in graded]),
        mrr=_mean([at_cut[query]["recip_rank"] for query in graded]),
    )


def _descending(documents: Sequence[str]) -> dict[str, float]:
    """Scores without ties: trec_eval would break those its own way."""
    return {document: float(len(documents) - place) for place, document in enumerate(documents)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
