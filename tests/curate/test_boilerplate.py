import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.curate.rules.boilerplate import BoilerplateConfig, documents_needed, line_keys, without_lines
from pipelines.text import normalise

FOOTER = "Copyright the authors. All rights reserved."
lines = st.sampled_from(
    ["", "  ", "short", FOOTER, f"  {FOOTER} ", "A line that is long enough.", "читать далее…"]
)
texts = st.lists(lines | st.text(max_size=12), max_size=12).map(lambda parts: normalise("\n".join(parts)))
drops = st.frozensets(lines.map(lambda line: next(iter(line_keys(line, 1)), 0)))
min_chars = st.integers(1, 30)


def test_the_key_of_a_line_is_a_signed_64_bit_number_that_stays_the_same() -> None:
    """Keys that were counted in one run are looked up in another."""
    assert line_keys(FOOTER, 20) == [-6438701483397420290]
    assert line_keys("читать далее", 5) == [7431978106724983301]


def test_a_line_is_known_by_what_stands_between_its_outer_white_space() -> None:
    assert line_keys(f"\t {FOOTER}  \nother line, also long\n{FOOTER}", 20) == [
        *line_keys(FOOTER, 20),
        *line_keys("other line, also long", 20),
    ]


def test_short_lines_have_no_key_and_are_never_dropped() -> None:
    assert line_keys("Yes.\n" + "x" * 19, 20) == []
    assert len(line_keys("x" * 20, 20)) == 1
    assert without_lines("Yes.\nNo.", frozenset(line_keys("Yes.", 1)), 20) == "Yes.\nNo."


def test_a_dropped_line_leaves_the_others_as_they_were() -> None:
    text = f"{FOOTER}\n\n  indented\n{FOOTER}\nlast line"
    assert without_lines(text, set(line_keys(FOOTER, 20)), 20) == "indented\nlast line"
    text = f"first\n{FOOTER}\n  indented"
    assert without_lines(text, set(line_keys(FOOTER, 20)), 20) == "first\n  indented"


def test_a_text_of_nothing_but_boilerplate_becomes_empty() -> None:
    assert without_lines(f"{FOOTER}\n\n{FOOTER}", set(line_keys(FOOTER, 20)), 20) == ""


@given(texts, min_chars)
def test_keys_are_distinct_fit_a_bigint_and_no_more_than_the_lines(text: str, least: int) -> None:
    keys = line_keys(text, least)
    assert len(keys) == len(set(keys)) <= text.count("\n") + 1
    assert all(-(2**63) <= key < 2**63 for key in keys)


@given(texts, drops, min_chars)
def test_what_is_left_has_none_of_the_dropped_lines_and_all_of_the_others(
    text: str, drop: frozenset[int], least: int
) -> None:
    left = without_lines(text, drop, least)
    assert not drop.intersection(line_keys(left, least))
    assert line_keys(left, least) == [key for key in line_keys(text, least) if key not in drop]
    assert normalise(left) == left
    assert without_lines(left, drop, least) == left


@given(texts, drops, min_chars)
def test_a_text_without_boilerplate_stays_as_it_is(text: str, drop: frozenset[int], least: int) -> None:
    assert without_lines(text, drop.difference(line_keys(text, least)), least) == text


@pytest.mark.parametrize(
    ("documents", "share", "needed"), [(10, 0.07, 5), (71, 0.07, 5), (72, 0.07, 6), (100, 0.07, 7)]
)
def test_a_line_must_stand_in_enough_documents_and_in_enough_of_the_source(
    documents: int, share: float, needed: int
) -> None:
    assert documents_needed(documents, BoilerplateConfig(min_documents=5, min_share=share)) == needed
