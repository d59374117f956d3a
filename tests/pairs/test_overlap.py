"""Which texts give an evaluation query away."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import InputError
from pipelines.pairs.overlap import given_away, query_grams, read_queries, words

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h"]), min_size=1, max_size=12)


@given(query=WORDS, text=WORDS, size=st.integers(1, 5))
def test_against_a_search_for_words_in_a_row(query: list[str], text: list[str], size: int) -> None:
    if len(query) < size:
        wanted = query == text
    else:
        rows = [query[at : at + size] for at in range(len(query) - size + 1)]
        wanted = any(text[at : at + size] in rows for at in range(len(text) - size + 1))
    found = given_away(" ".join(text), query_grams([" ".join(query)], size), size)
    assert (found == " ".join(query)) if wanted else (found is None)


def test_case_and_punctuation_do_not_hide_a_query() -> None:
    grams = query_grams(["What is the heat transfer of a blunt body?"], 5)
    assert given_away("... 'The HEAT-transfer, of a' blunt body", grams, 5) == (
        "What is the heat transfer of a blunt body?"
    )
    assert given_away("heat transfer of bodies that are blunt", grams, 5) is None


def test_a_short_query_is_given_away_by_itself_alone() -> None:
    grams = query_grams(["wing flutter", ""], 8)
    assert given_away("Wing flutter!", grams, 8) == "wing flutter"
    assert given_away("on wing flutter at high speed", grams, 8) is None
    assert given_away("", grams, 8) is None


def test_words_are_normalised() -> None:
    assert words("Z\u0075\u0308RICH, z\u00fcrich") == ["zürich", "zürich"]


def test_files_of_queries(tmp_path: Path) -> None:
    lines, plain = tmp_path / "q.jsonl", tmp_path / "q.txt"
    lines.write_text('{"_id": "1", "text": "one"}\n\n{"text": "two"}\n')
    plain.write_text("three\nfour\n")
    assert read_queries([lines, plain]) == ["one", "two", "three", "four"]
    lines.write_text('{"query": "one"}\n')
    with pytest.raises(InputError, match="no file of queries"):
        read_queries([lines])
    with pytest.raises(InputError, match="cannot be read"):
        read_queries([tmp_path / "absent.txt"])
