"""Which language a text is in, by py3langid: its model is in the package, and nothing is fetched.

The choice of the library, with figures: docs/adr/0008-language-library.md.
"""

import difflib
from functools import lru_cache
from typing import Any

from pydantic import Field, field_validator

from pipelines.config import Config

REASONS: dict[str, str] = {"language": "the text is in none of the languages to keep"}
"""Reason of a reject -> its meaning."""

UNDETERMINED = "und"
"""ISO 639-2's code for a text whose language cannot be told."""

UNKNOWN = frozenset({"zxx", UNDETERMINED})
"""Answers that name no language: text without words (numbers, codes), and undetermined."""

_CODES = (
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr ht "
    "hu hy id ig is it ja jv ka kk km kn ko ku ky la lg ln lo lt lv mg mk ml mn mr ms my ne nl no om or pa "
    "pl ps pt qu ro ru sa si sk sl so sq sr sv sw ta te th tl tr ug uk ur uz vi xh yo zh zu ace bcl dz ext "
    "gcf gom grc gug hbo kik nso pcm rw se sn st an ary crh fo fuv gcr guw kab lb lij ltg uzs wa sdh arz ba "
    "mt nn oc tg tk tt vec vo wuu yue"
)
LANGUAGES = frozenset(_CODES.split())
"""Codes of the languages that can be told: ISO 639-1 where there is one, else ISO 639-3."""

# Longer texts are judged by three windows of this many characters: 1,000 tell a language, and 10 MB
# would take the detector 5 s.
_WINDOW_CHARS = 1000
# Of a text that says nothing all languages are as likely, and nearly all of the probability is with those
# not kept: to reject, one of them must stand out.
_STANDS_OUT = 0.5


class LanguageConfig(Config):
    """Which languages are kept.

    The detector gives each language a probability. Where those of the languages to keep add up to
    `min_confidence`, the text is kept. Where those of the others do, and one of them is likelier than not,
    it is rejected. Else the text is too short or too mixed to tell, and `keep_unsure` decides.

    Attributes:
        keep: Codes of the languages to keep, ISO 639-1 where there is one (`LANGUAGES`); empty keeps all.
        min_confidence: Probability from which the detector is believed. It reaches 0.8 for 97 % of
            texts of 400 characters, and for 54 to 71 % of texts of 40.
        keep_unsure: Whether texts are kept whose language cannot be told, those without words included.
        annotate: Whether each document's language is added to its metadata, as `language`; `und` where it
            cannot be told.
    """

    keep: tuple[str, ...] = ()
    min_confidence: float = Field(default=0.8, ge=0.5, le=1)
    keep_unsure: bool = True
    annotate: bool = False

    @field_validator("keep", mode="before")
    @classmethod
    def _norwegian(cls, value: Any) -> Any:
        """YAML reads a bare `no` as false."""
        if isinstance(value, list | tuple):
            return tuple("no" if code is False else code for code in value)
        return value

    @field_validator("keep")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for code in value:
            if code not in LANGUAGES:
                near = _nearest_language(code)
                hint = f"did you mean '{near}'? " if near else ""
                raise ValueError(f"unknown language '{code}': {hint}known are {' '.join(sorted(LANGUAGES))}")
        return value


def language_of(text: str, min_confidence: float) -> str:
    """The code of the language that `text` is in; `UNDETERMINED` below `min_confidence`."""
    code, confidence = _ranking(_sample(text))[0]
    return UNDETERMINED if code in UNKNOWN or confidence < min_confidence else code


def language_fault(text: str, config: LanguageConfig) -> tuple[str, str] | None:
    """Why the language of `text` speaks against it; None where it is kept.

    Args:
        text: In normal form.
        config: What to keep, and what becomes of texts whose language cannot be told.

    Returns:
        A reason of `REASONS` and its detail.
    """
    if not config.keep:
        return None
    ranking = _ranking(_sample(text))
    code, confidence = ranking[0]
    kept = sum(probability for language, probability in ranking if language in config.keep)
    if kept >= config.min_confidence:
        return None
    sure = code not in UNKNOWN and confidence >= _STANDS_OUT and kept <= 1 - config.min_confidence
    if not sure and config.keep_unsure:
        return None
    detail = f"detected {code} ({confidence:.2f}), kept: {', '.join(config.keep)}"
    return "language", detail if sure else f"{detail}, unsure below {config.min_confidence:g}"


def _nearest_language(code: str) -> str | None:
    """`en` for `EN`, `en-US`, `eng` and `english`; else a code spelt alike."""
    lower = code.strip().lower()
    # Bokmål has no code of its own here, and these two were renamed.
    renamed = {"nb": "no", "nob": "no", "iw": "he", "in": "id", "ger": "de", "deu": "de", "german": "de"}
    for candidate in (lower, renamed.get(lower, ""), lower.replace("_", "-").split("-")[0], lower[:2]):
        if candidate in LANGUAGES:
            return candidate
    return next(iter(difflib.get_close_matches(lower, sorted(LANGUAGES), 1)), None)


def _sample(text: str) -> str:
    """`text`, or where it is long the windows at its start, middle and end."""
    if len(text) <= 3 * _WINDOW_CHARS:
        return text
    middle = (len(text) - _WINDOW_CHARS) // 2
    windows = (text[:_WINDOW_CHARS], text[middle : middle + _WINDOW_CHARS], text[-_WINDOW_CHARS:])
    return "\n".join(windows)


@lru_cache(maxsize=1)  # a document is judged and annotated in turn
def _ranking(sample: str) -> list[tuple[str, float]]:
    """All languages with their probabilities, the likeliest first."""
    ranking: list[tuple[str, float]] = _detector().rank(sample)
    return ranking


@lru_cache(maxsize=1)
def _detector() -> Any:
    """The process's detector: half a second to load, and 75 MiB."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
