import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from pipelines.text import is_blank, normalise, text_hash

any_text = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@given(any_text)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(any_text)
def test_a_normal_text_has_no_controls_no_outer_space_and_is_nfc(text: str) -> None:
    normal = normalise(text)
    assert not any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in normal)
    assert normal == normal.strip()
    assert unicodedata.is_normalized("NFC", normal)


def test_line_ends_become_newlines_and_nul_vanishes() -> None:
    assert normalise("a\r\nb\rc\x00d\u2028e\ufeff") == "a\nb\ncd\ne"


def test_a_control_between_letter_and_accent_does_not_keep_them_apart() -> None:
    assert normalise("e\x00\u0301") == "\u00e9"


def test_only_what_a_reader_could_see_is_not_blank() -> None:
    assert is_blank("")
    assert is_blank(" \n\u200b\u0301")
    assert not is_blank(".")
    assert not is_blank("字")


@given(any_text, any_text)
def test_texts_have_one_hash_exactly_if_they_are_equal(one: str, other: str) -> None:
    assert (text_hash(one) == text_hash(other)) == (one == other)
    assert len(text_hash(one)) == 32
