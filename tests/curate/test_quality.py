# ruff: noqa: RUF001 - letters that look like others are what these tests are about
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import parse
from pipelines.curate.rules import boilerplate, language
from pipelines.curate.rules.c4 import sentences
from pipelines.curate.rules.gopher import repeated_chars
from pipelines.curate.rules.mend import mended
from pipelines.curate.rules.quality import REASONS, quality_fault
from pipelines.curate.rules.quality_config import C4Config, GopherConfig, QualityConfig
from pipelines.curate.rules.words import View
from pipelines.errors import ConfigError
from pipelines.text import normalise
from tests.sentences import SECOND_ARTICLE, SENTENCES

any_text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300)
GOPHER_OFF: dict[str, Any] = dict.fromkeys(GopherConfig.model_fields)
C4_OFF: dict[str, Any] = {
    "lorem_ipsum": False, "curly_brace": False,
    "max_javascript_lines": None, "max_policy_lines": None, "min_sentences": None,
}  # fmt: skip
ALL_OFF: dict[str, Any] = {
    "reject_without_letters": False, "max_replacement_chars": None, "gopher": GOPHER_OFF, "c4": C4_OFF,
}  # fmt: skip
DISTINCT = " ".join(f"word{n}" for n in range(100))


def only(path: str, value: Any) -> QualityConfig:
    """The settings with one rule switched on: `gopher.min_words`, say."""
    section, _, name = path.rpartition(".")
    values = {**ALL_OFF[section], name: value} if section else value
    return parse(QualityConfig, {**ALL_OFF, section or name: values}, "the test")


SPAM = "Cheap watches, cheap shoes, best price online store, fast worldwide shipping, order now today."
GERMAN_SPAM = "Günstige Uhren, günstige Schuhe, bester Preis im Netz, schneller Versand weltweit."
# The setting, its threshold, a text that breaks it, one that just does not, and the reason.
RULES: list[tuple[str, Any, str, str, str]] = [
    ("reject_without_letters", True, "--- *** ???", "— 7 —", "no_letters"),
    ("max_replacement_chars", 0.1, "caf\ufffd \ufffd", "the caf\ufffd is near", "replacement_chars"),
    ("min_chars", 5, "four", "fives", "too_short"),
    ("max_chars", 5, "sixsix", "fives", "too_long"),
    ("max_char_run", 10, "a" + "=" * 11, "=" * 10 + " " * 20 + "=" * 10, "char_run"),
    ("gopher.min_words", 3, "two words", "now three words", "gopher_word_count"),
    ("gopher.max_words", 3, "now there are four", "now three words", "gopher_word_count"),
    ("gopher.min_mean_word_length", 3, "a b c abcd", "abc abc", "gopher_mean_word_length"),
    ("gopher.max_mean_word_length", 10, "abcdefghijk", "abcdefghij", "gopher_mean_word_length"),
    ("gopher.max_symbol_ratio", 0.1, "#a #b c d e", "C# a b c d e f g h i", "gopher_symbol_ratio"),
    ("gopher.max_symbol_ratio", 0.1, "so... what… now", "so... a b c d e f g h i", "gopher_symbol_ratio"),
    ("gopher.max_bullet_lines", 0.5, "- a\n• b\nc", "- a\n\n— b", "gopher_bullet_lines"),
    ("gopher.max_ellipsis_lines", 0.3, "a...\nb…\nc", "a...\nb\nc\nd", "gopher_ellipsis_lines"),
    ("gopher.min_alphabetic_words", 0.8, "a b c 4 5", "a b c d 5", "gopher_alphabetic_words"),
    ("gopher.max_duplicate_lines", 0.25, "a\nb\na", "a\nb\n\nc\n\na", "gopher_duplicate_lines"),
    ("gopher.max_duplicate_line_chars", 0.2, "abcd\ne\nabcd", "a\na\nbcd", "gopher_duplicate_line_chars"),
    ("gopher.max_duplicate_paragraphs", 0.25, "a\nb\n\na\nb", "a\nb\nc\na", "gopher_duplicate_paragraphs"),
    ("gopher.max_duplicate_paragraph_chars", 0.2, "ab\n\nc\n\nab", "a\n\na\n\nbcd",
     "gopher_duplicate_paragraph_chars"),
    ("gopher.max_top_2gram_chars", 0.2, "buy now " * 40 + DISTINCT, DISTINCT, "gopher_top_ngram"),
    ("gopher.max_top_3gram_chars", 0.18, "buy it now " * 40 + DISTINCT, DISTINCT, "gopher_top_ngram"),
    ("gopher.max_top_4gram_chars", 0.16, "do buy it now " * 40 + DISTINCT, DISTINCT, "gopher_top_ngram"),
    *(
        (f"gopher.max_duplicate_{n}gram_chars", 0.2, f"{DISTINCT} " * 2, DISTINCT, "gopher_duplicate_ngrams")
        for n in range(5, 11)
    ),
    ("gopher.min_stop_words", 2, SPAM, f"{SPAM} To the shop", "gopher_stop_words"),
    ("gopher.min_stop_words", 2, SPAM, GERMAN_SPAM, "gopher_stop_words"),
    ("c4.lorem_ipsum", True, "Lorem Ipsum dolor sit amet", "Lorem dolor", "c4_lorem_ipsum"),
    ("c4.curly_brace", True, "int main() { }", "a }", "c4_curly_brace"),
    ("c4.max_javascript_lines", 0.25, "Enable JavaScript.\nA", "Javascript\nA\nB\nC", "c4_javascript_lines"),
    ("c4.max_policy_lines", 0.25, "This site uses cookies.\nHome", "She bakes cookies.", "c4_policy_lines"),
    ("c4.min_sentences", 3, "One at 3.5 %. Two", "One. Two! Three", "c4_sentences"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "threshold", "bad", "good", "reason"), RULES)
def test_each_rule_alone_rejects_what_it_names_and_keeps_what_just_passes(
    rule: str, threshold: Any, bad: str, good: str, reason: str
) -> None:
    config = only(rule, threshold)
    fault = quality_fault(bad, config)
    assert fault is not None
    assert fault[0] == reason
    assert fault[1]
    assert quality_fault(good, config) is None
    assert quality_fault(bad, parse(QualityConfig, ALL_OFF, "the test")) is None


def test_every_setting_and_every_reason_has_a_rule_that_is_tested() -> None:
    settings = {*QualityConfig.model_fields} - {"gopher", "c4", "fix_encoding"}
    settings |= {f"gopher.{name}" for name in GopherConfig.model_fields}
    settings |= {f"c4.{name}" for name in C4Config.model_fields}
    assert {rule for rule, *_ in RULES} == settings
    assert {reason for *_, reason in RULES} == set(REASONS) - set(language.REASONS) - set(boilerplate.REASONS)


def test_by_default_short_texts_of_every_script_are_worth_an_embedding() -> None:
    for text in (*SENTENCES.values(), "Yes.", "ok", "π ≈ 3", "42", "سلام", "はい", "{}; # x...", "a" * 100):
        assert quality_fault(text, QualityConfig()) is None


@pytest.mark.parametrize("code", SENTENCES)
def test_the_published_thresholds_keep_prose_of_every_script(code: str) -> None:
    """One sentence or two: all but the least numbers of words and sentences."""
    config = QualityConfig(gopher=GopherConfig(min_words=None), c4=C4Config(min_sentences=1))
    assert quality_fault(normalise(SENTENCES[code]), config) is None


@pytest.mark.parametrize("code", SECOND_ARTICLE)
def test_the_published_thresholds_keep_prose_that_repeats_words_and_reject_it_repeated(code: str) -> None:
    config = QualityConfig(gopher=GopherConfig(), c4=C4Config())
    text = normalise(f"{SENTENCES[code]} {SECOND_ARTICLE[code]}")
    assert quality_fault(text, config) is None
    repeated = quality_fault(f"{text} {text}", config)
    assert repeated is not None
    assert repeated[0] == "gopher_duplicate_ngrams"


def test_sentences_end_at_the_marks_of_their_script() -> None:
    counts = {code: sentences(SENTENCES[code]) for code in SENTENCES}
    assert {code for code, count in counts.items() if count == 1} == {"es", "my", "ta", "th"}
    assert set(counts.values()) == {1, 2}


def test_a_letter_of_a_script_without_spaces_is_a_word_and_its_marks_and_punctuation_are_none() -> None:
    assert View("私は PDF を「読む」。").words == ["私", "は", "PDF", "を", "読", "む"]
    assert View("ที่นี่ 24 ชม.").words == ["ที่", "นี่", "24", "ช", "ม", "."]
    assert View("iPhone用のＡＢＣ").words == ["iPhone", "用", "の", "ＡＢＣ"]
    assert View("사람이 본다").words == ["사람이", "본다"]


def test_the_length_of_a_word_is_that_of_its_letters_however_its_script_writes_them() -> None:
    assert View("모든 인간은 자유").mean_word_length == 18 / 3  # ㅁㅗㄷㅡㄴ ㅇㅣㄴㄱㅏㄴㅇㅡㄴ ㅈㅏㅇㅠ
    assert View("كَتَبَ").mean_word_length == View("كتب").mean_word_length == 3
    assert View("का की").mean_word_length == 2
    assert View("می‌آیند").mean_word_length == 6  # with a zero-width non-joiner
    assert View("abc 読む de").mean_word_length == 2.5
    assert View("読む").mean_word_length == 0


def test_sequences_are_not_judged_in_a_text_too_short_to_tell() -> None:
    config = only("gopher.max_top_2gram_chars", 0.2)
    assert quality_fault("Paris Hilton met Paris Hilton in Paris", config) is None
    assert quality_fault("読むこと、読むこと。", config) is None


@given(any_text)
def test_words_hold_no_white_space_and_stand_in_the_order_of_the_text(text: str) -> None:
    rest = iter(text)
    words = View(text).words
    assert all(words)
    assert not any(map(str.isspace, "".join(words)))
    assert all(character in rest for character in "".join(words))


@given(any_text)
def test_any_text_is_judged_and_a_fault_has_a_known_reason(text: str) -> None:
    normal = normalise(text)
    harsh = QualityConfig(gopher=GopherConfig(min_words=None), c4=C4Config(), max_char_run=8)
    for config in (QualityConfig(), harsh, QualityConfig(gopher=GopherConfig())):
        fault = quality_fault(normal, config) if normal else None
        assert fault is None or (fault[0] in REASONS and fault[1])


@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=40), st.integers(1, 6))
def test_repeated_sequences_are_found_where_there_are_any_and_counted_once(words: list[str], n: int) -> None:
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    covered = {
        position
        for start, gram in enumerate(grams)
        if gram in grams[:start]
        for position in range(start, start + n)
    }
    repeated = repeated_chars(words, n)
    assert (repeated > 0) == bool(covered)
    assert repeated <= sum(len(words[position]) for position in covered)


@given(st.lists(st.text("xyz", min_size=1, max_size=4), min_size=5, max_size=30, unique=True))
def test_of_words_said_twice_half_are_repeated(words: list[str]) -> None:
    assert repeated_chars(words * 2, 5) in range(
        sum(map(len, words[: len(words) // 5 * 5])), sum(map(len, words)) + 1
    )


@pytest.mark.parametrize("section", ["gopher", "c4"])
def test_a_preset_is_switched_on_by_true_or_by_an_empty_section_and_off_by_false_or_null(
    section: str,
) -> None:
    values: list[Any] = [True, {}, False, None]
    *on, no, null = (parse(QualityConfig, {section: value}, "the test") for value in values)
    assert on[0] == on[1] != QualityConfig()
    assert no == null == QualityConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gopher": {"min_word": 3}}, "gopher.min_word"),
        ({"gopher": {"max_bullet_lines": 1.5}}, "gopher.max_bullet_lines"),
        ({"gopher": {"min_words": 10, "max_words": 9}}, "min_words must be at most max_words"),
        ({"min_chars": 10, "max_chars": 9}, "min_chars must be at most max_chars"),
        ({"c4": 3}, "c4"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(QualityConfig, values, "the test")


@pytest.mark.parametrize("code", SENTENCES)
def test_mending_changes_no_text_that_is_right_and_undoes_a_wrong_decoding(code: str) -> None:
    text = normalise(SENTENCES[code])
    assert mended(text) == text
    assert normalise(mended(text.encode("utf-8").decode("latin-1"))) == text


def test_only_wrong_decoding_is_mended() -> None:
    assert mended("L’été, câ€™est dÃ©jÃ\xa0 loin") == "L’été, c’est déjà loin"
    assert mended("\x93quoted\x94") == "“quoted”"
    for text in (
        "“curled” ‘quotes’",
        "&eacute; &amp; café",
        "ﬁne",
        "ＦＵＬＬ",
        "a\r\nb é",
        "Ã",
        "São Tomé — 5 €",
    ):
        assert mended(text) == text


@given(any_text)
def test_mending_ascii_changes_nothing_and_never_fails(text: str) -> None:
    assert isinstance(mended(text), str)
    plain = text.encode("ascii", "ignore").decode()
    assert mended(plain) == plain


@pytest.mark.parametrize("rules", ["gopher", "c4"])
def test_a_preset_is_switched_by_a_word_as_the_command_line_gives_it(rules: str) -> None:
    on, off = (QualityConfig.model_validate({rules: word}) for word in ("true", "False"))
    assert on == QualityConfig.model_validate({rules: {}})
    assert off == QualityConfig()
    with pytest.raises(ValueError, match=rules):
        QualityConfig.model_validate({rules: "sometimes"})
