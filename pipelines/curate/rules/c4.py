"""The rules of C4: Raffel et al. 2020, section 2.2, as far as they suit texts to embed."""

import re
from collections.abc import Iterator

from pipelines.curate.rules.quality_config import C4Config
from pipelines.curate.rules.words import View

Fault = tuple[str, str]

REASONS: dict[str, str] = {
    "c4_lorem_ipsum": "placeholder text",
    "c4_curly_brace": "an opening curly brace: mostly code",
    "c4_javascript_lines": "too many of the lines speak of JavaScript, as warnings that it is off do",
    "c4_policy_lines": "too many of the lines speak of cookies, a privacy policy or terms of use",
    "c4_sentences": "too few sentences",
}
"""Reason of a reject -> its meaning."""

_POLICY = re.compile(
    r"terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies", re.IGNORECASE
)
_JAVASCRIPT = re.compile("javascript", re.IGNORECASE)
# The marks of scripts with spaces end a sentence before white space only (not in "3.5"); those of the
# others, and of scripts that use the mark for nothing else, anywhere: ideographic, Devanagari, Arabic, Urdu,
# Armenian, Ethiopic, Burmese, Khmer, Tibetan, Mongolian. A blank line ends a sentence as well.
_SENTENCE_END = re.compile(
    "[.!?\u2026]+[\"'\u201d\u2019\u00bb)\\]]*(?:\\s|$)"
    "|[\u3002\uff0e\uff01\uff1f\uff61\u0964\u0965\u061f\u06d4\u0589\u1362\u1367\u104b\u17d4\u17d5\u0f0d\u0f0e\u1803\u1809]+"
    "|\\n\\s*\\n"
)
# Thai and Lao part sentences by a space, as they do phrases.
_UNMARKED = re.compile("[\u0e00-\u0eff]")


def c4_faults(view: View, config: C4Config) -> Iterator[Fault]:
    """The rules that the text breaks, the cheap ones first.

    Args:
        view: The text.
        config: The thresholds.

    Yields:
        A reason of `REASONS` and its detail.
    """
    if config.curly_brace and "{" in view.characters:
        yield "c4_curly_brace", f"{view.characters['{']} of them"
    if config.lorem_ipsum and (found := re.search("lorem ipsum", view.text, re.IGNORECASE)):
        yield "c4_lorem_ipsum", f"at character {found.start()}"
    for reason, pattern, most in (
        ("c4_javascript_lines", _JAVASCRIPT, config.max_javascript_lines),
        ("c4_policy_lines", _POLICY, config.max_policy_lines),
    ):
        if most is not None and view.lines:
            share = sum(1 for line in view.lines if pattern.search(line)) / len(view.lines)
            if share > most:
                yield reason, f"{share:.3g} of the lines, at most {most:g}"
    if config.min_sentences and not _unmarked(view):
        count = sentences(view.text)
        if count < config.min_sentences:
            yield "c4_sentences", f"{count} sentences, at least {config.min_sentences}"


def sentences(text: str) -> int:
    """Sentences of `text`, in any script that marks their ends; one without a mark at the end counts."""
    return sum(1 for part in _SENTENCE_END.split(text) if any(map(str.isalnum, part)))


def _unmarked(view: View) -> bool:
    """Whether at least half of the letters are of scripts that do not mark where a sentence ends."""
    letters = [(character, n) for character, n in view.characters.items() if character.isalpha()]
    unmarked = sum(n for character, n in letters if _UNMARKED.match(character))
    return unmarked > 0 and 2 * unmarked >= sum(n for _, n in letters)
