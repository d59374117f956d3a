import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluate.judgements import gains
from pipelines.evaluate.metrics import score

IDS = [f"d{number}" for number in range(15)]


def ndcg_by_hand(grades: dict[str, int], ranked: list[str]) -> float:
    def dcg(found: list[int]) -> float:
        return sum(gain / math.log2(place + 2) for place, gain in enumerate(found[:10]))

    ideal = dcg(sorted((max(grade, 0) for grade in grades.values()), reverse=True))
    return dcg([max(grades.get(document, 0), 0) for document in ranked]) / ideal if ideal else 0.0


@given(
    grades=st.dictionaries(st.sampled_from(IDS), st.integers(0, 3), min_size=1), ranked=st.permutations(IDS)
)
def test_scores_are_those_of_their_definitions(grades: dict[str, int], ranked: list[str]) -> None:
    found = score({"q": grades}, {"q": ranked})
    assert found.ndcg == pytest.approx(ndcg_by_hand(grades, ranked))
    first = next((place for place, name in enumerate(ranked, 1) if grades.get(name, 0) > 0), 99)
    assert found.mrr == pytest.approx(1 / first if first <= 10 else 0)
    assert found.recall == (1.0 if any(grades.values()) else 0.0)


def test_a_ranking_is_taken_in_the_order_it_has() -> None:
    """trec_eval would put equal scores in an order of its own."""
    names = [f"d{number:03d}" for number in range(200)]
    assert score({"q": {"d000": 1}}, {"q": names}).mrr == 1
    assert score({"q": {"d009": 1}}, {"q": names}).mrr == pytest.approx(0.1)
    assert score({"q": {"d010": 1}}, {"q": names}).mrr == 0
    assert score({"q": {"d099": 1}}, {"q": names}).recall == 1
    assert score({"q": {"d100": 1}}, {"q": names}).recall == 0


def test_queries_weigh_alike_and_one_that_finds_nothing_counts() -> None:
    found = score({"a": {"x": 1}, "b": {"x": 1, "y": 1}}, {"a": ["x"], "b": []})
    assert (found.ndcg, found.recall, found.mrr) == (0.5, 0.5, 0.5)


def test_a_judged_document_that_cannot_be_found_counts_as_not_found() -> None:
    found = score({"q": {"here": 1, "gone": 1}}, {"q": ["here"]})
    assert found.recall == 0.5
    assert found.ndcg == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_grades_are_gains_unless_a_score_is_negative() -> None:
    graded, said = gains({"q": {"a": 2, "b": 0}}, "auto")
    assert (graded, said) == ({"q": {"a": 2, "b": 0}}, "gains: the scores, 0, 2")
    codes, said = gains({"q": {"a": 4, "b": 0}, "p": {"c": -1}}, "auto")
    assert codes == {"q": {"a": 1, "b": 0}, "p": {"c": 1}}
    assert said.startswith("gains: 1 for every code but 0, of -1, 0, 4 (a score is negative")


def test_a_rule_that_is_asked_for_is_followed() -> None:
    assert gains({"q": {"a": 3, "b": -2}}, "graded")[0] == {"q": {"a": 3, "b": 0}}
    assert gains({"q": {"a": 3, "b": 0}}, "binary")[0] == {"q": {"a": 1, "b": 0}}
