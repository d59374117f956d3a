import hashlib
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import parse
from pipelines.curate.rules.language import (
    LANGUAGES,
    REASONS,
    UNDETERMINED,
    UNKNOWN,
    LanguageConfig,
    language_fault,
    language_of,
)
from pipelines.errors import ConfigError
from tests.sentences import SENTENCES

# Indonesian and Malay are nearly one language in this text, and the detector says so: 0.6 to 0.4.
SURE = sorted(set(SENTENCES) - {"id"})
HEX = " ".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(9))
any_text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300)


def keeping(*codes: str, **values: Any) -> LanguageConfig:
    return LanguageConfig(keep=codes, **values)


@pytest.mark.parametrize("code", SURE)
def test_a_text_is_known_by_its_language_kept_with_it_and_rejected_with_another(code: str) -> None:
    text = SENTENCES[code]
    assert language_of(text, 0.8) == code
    assert language_fault(text, keeping(code, keep_unsure=False)) is None
    fault = language_fault(text, keeping("eo", "mt"))
    assert fault is not None
    reason, detail = fault
    assert reason in REASONS
    assert re.fullmatch(rf"detected {code} \((0\.[89]\d|1\.00)\), kept: eo, mt", detail)


def test_without_languages_to_keep_all_are_kept() -> None:
    assert all(language_fault(text, LanguageConfig()) is None for text in SENTENCES.values())


def test_a_text_between_two_close_languages_is_kept_with_either_of_them() -> None:
    text = SENTENCES["id"]
    assert language_of(text, 0.8) == UNDETERMINED
    assert language_fault(text, keeping("id")) is None
    assert language_fault(text, keeping("ms")) is None
    assert language_fault(text, keeping("id", "ms", keep_unsure=False)) is None
    assert language_fault(text, keeping("en")) is not None


@pytest.mark.parametrize("text", ["", "a", "OK", "12 345 678", "+ - * /", "😀", "foo_bar(1)", "x" * 500, HEX])
def test_a_text_that_says_nothing_of_its_language_is_kept_unless_told_otherwise(text: str) -> None:
    assert language_of(text, 0.8) == UNDETERMINED
    assert language_fault(text, keeping("eo")) is None
    fault = language_fault(text, keeping("eo", keep_unsure=False))
    assert fault is not None
    assert fault[1].endswith("unsure below 0.8")


def test_the_more_confidence_is_asked_the_fewer_texts_are_rejected() -> None:
    text = "Der Hund und the dog"
    rejected = [
        language_fault(text, keeping("en", min_confidence=step / 100)) is not None for step in range(50, 101)
    ]
    assert rejected == sorted(rejected, reverse=True)
    surely_kept = [
        language_fault(text, keeping("de", min_confidence=step / 100, keep_unsure=False)) is None
        for step in range(50, 101)
    ]
    assert surely_kept == sorted(surely_kept, reverse=True)


def test_of_a_long_text_start_middle_and_end_are_heard() -> None:
    french = SENTENCES["fr"] + "\n"
    notice = "This work is free of known copyright restrictions. See the licence for details.\n" * 50
    assert language_of(notice, 0.8) == "en"
    assert language_of(notice + french * 1000, 0.8) == "fr"
    assert language_of(french * 1000 + notice, 0.8) == "fr"


@given(any_text)
@settings(max_examples=50)
def test_any_text_is_judged(text: str) -> None:
    fault = language_fault(text, keeping("en", "de"))
    assert fault is None or fault[0] in REASONS
    assert language_of(text, 0.5) in LANGUAGES | {UNDETERMINED}


def test_the_codes_listed_are_those_that_the_detector_gives() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    labels = LanguageIdentifier.from_model_file(MODEL_FILE).labels
    assert set(labels) - UNKNOWN == LANGUAGES


@pytest.mark.parametrize(
    ("code", "near"),
    [("english", "en"), ("en-US", "en"), ("pt_BR", "pt"), ("EN", "en"), ("nb", "no"), ("deu", "de")],
)
def test_a_code_that_is_not_known_is_refused_with_the_nearest_and_the_known_ones(
    code: str, near: str
) -> None:
    with pytest.raises(
        ConfigError, match=f"keep.*unknown language '{code}': did you mean '{near}'.*known are"
    ) as e:
        parse(LanguageConfig, {"keep": ["en", code]}, "the test")
    assert " zh " in str(e.value)


def test_norwegian_which_yaml_reads_as_false_is_understood() -> None:
    assert parse(LanguageConfig, {"keep": ["en", False]}, "the test").keep == ("en", "no")


@pytest.mark.parametrize(
    "values", [{"min_confidence": 0.4}, {"min_confidence": 1.1}, {"keep": [True]}, {"keep": "en"}]
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parse(LanguageConfig, values, "the test")


def test_the_detector_is_not_loaded_before_a_text_is_judged() -> None:
    code = (
        "import sys; from pipelines.curate.rules.language import LanguageConfig as C, language_fault\n"
        "assert language_fault('text', C()) is None\n"
        "assert 'py3langid' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
