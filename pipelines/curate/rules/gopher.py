"""The rules of Gopher's MassiveText: Rae et al. 2021, appendix A.1.1."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from pipelines.curate.rules.language import language_of
from pipelines.curate.rules.quality_config import GopherConfig
from pipelines.curate.rules.words import View

Fault = tuple[str, str]

REASONS: dict[str, str] = {
    "gopher_word_count": "too few or too many words",
    "gopher_mean_word_length": "the words are too short or too long on average",
    "gopher_symbol_ratio": "too many hash signs or ellipses for the number of words",
    "gopher_bullet_lines": "too many of the lines start with a bullet",
    "gopher_ellipsis_lines": "too many of the lines end with an ellipsis",
    "gopher_alphabetic_words": "too few of the words have a letter",
    "gopher_duplicate_lines": "too many lines repeat an earlier one",
    "gopher_duplicate_line_chars": "too much of the text is in lines that repeat an earlier one",
    "gopher_duplicate_paragraphs": "too many paragraphs repeat an earlier one",
    "gopher_duplicate_paragraph_chars": "too much of the text is in paragraphs that repeat an earlier one",
    "gopher_top_ngram": "too much of the text is one sequence of 2 to 4 words",
    "gopher_duplicate_ngrams": "too much of the text is in sequences of 5 to 10 words that were there before",
    "gopher_stop_words": "an English text without English stop words",
}
"""Reason of a reject -> its meaning."""

_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
# Dashes are none: in many languages a line of dialogue starts with one.
_BULLETS = ("•", "‣", "⁃", "◦", "●", "○", "▪", "■", "▶", "*", "-", "·", "・")  # noqa: RUF001 - bullets that look alike
_ELLIPSIS = re.compile(r"\.{3,}|…+")
_LETTER = re.compile(r"[^\W\d_]")
# Sequences of words are looked for in so many words at most, so that a book costs no more than 2 s.
_NGRAM_WORDS = 100_000
# In fewer words, Gopher's own least number, two that stand together twice are a tenth of the text.
_MIN_NGRAM_WORDS = 50
# Letters of a script without spaces that stand for a word in a sequence. Of a manual's Japanese pages the
# rules reject 73 % with 1, 4 % with 3 and 1 % with 4; of its English pages, 5 %.
_LETTERS_PER_WORD = 4


def gopher_faults(view: View, config: GopherConfig) -> Iterator[Fault]:
    """The rules that the text breaks, the cheap ones first.

    Args:
        view: The text.
        config: The thresholds.

    Yields:
        A reason of `REASONS` and its detail.
    """
    yield from _word_faults(view, config)
    yield from _line_faults(view, config)
    yield from _top_ngrams(view, config)
    yield from _duplicate_ngrams(view, config)
    yield from _stop_words(view, config)


def _word_faults(view: View, config: GopherConfig) -> Iterator[Fault]:
    count = len(view.words)
    if not _within(count, config.min_words, config.max_words):
        yield "gopher_word_count", f"{count} words, {_bounds(config.min_words, config.max_words)}"
    low, high = config.min_mean_word_length, config.max_mean_word_length
    if not view.mostly_unspaced and not _within(view.mean_word_length, low, high):
        yield "gopher_mean_word_length", f"{view.mean_word_length:.1f} letters, {_bounds(low, high)}"
    if config.max_symbol_ratio is not None:
        hashes, ellipses = view.characters["#"], len(_ELLIPSIS.findall(view.text))
        for name, symbols in (("hash signs", hashes), ("ellipses", ellipses)):
            yield from _above(
                "gopher_symbol_ratio", symbols, count, f"{name} a word", config.max_symbol_ratio
            )
    if config.min_alphabetic_words is not None and count:
        share = sum(1 for word in view.words if word.isalpha() or _LETTER.search(word)) / count
        if share < config.min_alphabetic_words:
            detail = f"{share:.3g} of the words, at least {config.min_alphabetic_words:g}"
            yield "gopher_alphabetic_words", detail


def _line_faults(view: View, config: GopherConfig) -> Iterator[Fault]:
    lines = view.lines
    bullets = sum(line.startswith(_BULLETS) for line in lines)
    yield from _above("gopher_bullet_lines", bullets, len(lines), "of the lines", config.max_bullet_lines)
    ellipses = sum(line.endswith(("...", "…")) for line in lines)
    yield from _above(
        "gopher_ellipsis_lines", ellipses, len(lines), "of the lines", config.max_ellipsis_lines
    )
    for name, parts, most, most_chars in (
        ("line", lines, config.max_duplicate_lines, config.max_duplicate_line_chars),
        (
            "paragraph",
            view.paragraphs,
            config.max_duplicate_paragraphs,
            config.max_duplicate_paragraph_chars,
        ),
    ):
        distinct = set(parts)
        repeats = len(parts) - len(distinct)
        yield from _above(f"gopher_duplicate_{name}s", repeats, len(parts), f"of the {name}s", most)
        chars = sum(map(len, parts))
        repeated = chars - sum(map(len, distinct))
        yield from _above(f"gopher_duplicate_{name}_chars", repeated, chars, "of the characters", most_chars)


def _top_ngrams(view: View, config: GopherConfig) -> Iterator[Fault]:
    words, scale = _sequence(view)
    if len(words) < _MIN_NGRAM_WORDS * scale:
        return
    chars = sum(map(len, words))
    for n in (2, 3, 4):
        most = getattr(config, f"max_top_{n}gram_chars")
        if most is None:
            continue
        gram, times = Counter(_ngrams(words, n * scale)).most_common(1)[0]
        repeated = times * sum(map(len, gram)) if times > 1 else 0
        yield from _above("gopher_top_ngram", repeated, chars, f"of the characters in one {n}-gram", most)


def _duplicate_ngrams(view: View, config: GopherConfig) -> Iterator[Fault]:
    words, scale = _sequence(view)
    if len(words) < _MIN_NGRAM_WORDS * scale:
        return
    chars = sum(map(len, words))
    for n in range(5, 11):
        most = getattr(config, f"max_duplicate_{n}gram_chars")
        if most is None:
            continue
        repeated = repeated_chars(words, n * scale)
        unit = f"of the characters in repeated {n}-grams"
        yield from _above("gopher_duplicate_ngrams", repeated, chars, unit, most)
        if not repeated:
            return  # then no longer sequence repeats either


def _stop_words(view: View, config: GopherConfig) -> Iterator[Fault]:
    least = config.min_stop_words
    if not least or view.mostly_unspaced:
        return
    found = len(_STOP_WORDS.intersection(word.strip(".,;:!?\"'()") for word in view.text.lower().split()))
    # The detector is asked last: English texts seldom come this far.
    if found < least and language_of(view.text, 0.5) == "en":
        yield "gopher_stop_words", f"{found} of the English stop words, at least {least}"


def repeated_chars(words: Sequence[str], n: int) -> int:
    """Characters in sequences of `n` words that were there before, none counted twice."""
    if len(words) < n or len(set(_ngrams(words, n))) == len(words) - n + 1:
        return 0
    seen: set[tuple[str, ...]] = set()
    repeated = position = 0
    while position + n <= len(words):
        gram = tuple(words[position : position + n])
        if gram in seen:
            repeated += sum(map(len, gram))
            position += n
        else:
            seen.add(gram)
            position += 1
    return repeated


def _sequence(view: View) -> tuple[list[str], int]:
    """The words to look for sequences in, and how many of them stand for one word."""
    return view.words[:_NGRAM_WORDS], _LETTERS_PER_WORD if view.mostly_unspaced else 1


def _ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(n)), strict=False)


def _above(reason: str, count: int, total: int, unit: str, most: float | None) -> Iterator[Fault]:
    if most is not None and total and count / total > most:
        yield reason, f"{count / total:.3g} {unit}, at most {most:g}"


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _bounds(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:,}"
    return f"at least {low:,}" if high is None else f"bounds {low:,} and {high:,}"
