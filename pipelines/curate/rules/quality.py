"""Judges whether a text is worth an embedding, by rules that each have a threshold of their own.

The rules, by the reason of the reject, are listed in `REASONS`; their thresholds and sources are in
`pipelines.curate.rules.quality_config`. Pure functions of one text.
"""

import re
from collections.abc import Iterator

from pipelines.curate.rules import boilerplate, c4, gopher, language
from pipelines.curate.rules.quality_config import QualityConfig
from pipelines.curate.rules.words import View

REASONS: dict[str, str] = {
    "no_letters": "not one letter or digit of any script",
    "replacement_chars": "too many of the characters stand for bytes that were lost in decoding",
    "too_short": "too few characters",
    "too_long": "too many characters",
    "char_run": "one same character too often in a row",
    **gopher.REASONS,
    **c4.REASONS,
    **language.REASONS,
    **boilerplate.REASONS,
}
"""Reason of a reject -> its meaning, of the rules of quality, language and boilerplate."""

_REPLACEMENT = "\ufffd"
# Runs of 9 and more, which is the shortest that `max_char_run` can forbid. Each is matched whole, so that
# the time is linear.
_RUN = re.compile(r"(\S)\1{8,}")


def quality_fault(text: str, config: QualityConfig) -> tuple[str, str] | None:
    """The first rule that `text` breaks; None if it breaks none.

    Args:
        text: In normal form, not empty.
        config: Which rules there are, and their thresholds.

    Returns:
        A reason of `REASONS` and its detail: what was measured, and the threshold.
    """
    return next(_faults(View(text), config), None)


def _faults(view: View, config: QualityConfig) -> Iterator[tuple[str, str]]:
    chars = len(view.text)
    if config.min_chars is not None and chars < config.min_chars:
        yield "too_short", f"{chars:,} characters, at least {config.min_chars:,}"
    if config.max_chars is not None and chars > config.max_chars:
        yield "too_long", f"{chars:,} characters, at most {config.max_chars:,}"
    if config.reject_without_letters and not any(map(str.isalnum, view.text)):
        yield "no_letters", f"{chars:,} characters"
    lost = view.text.count(_REPLACEMENT)
    if config.max_replacement_chars is not None and lost > config.max_replacement_chars * chars:
        share = lost / chars
        yield "replacement_chars", f"{share:.3g} of the characters, at most {config.max_replacement_chars:g}"
    if config.max_char_run is not None:
        yield from _runs(view.text, config.max_char_run)
    if config.c4 is not None:
        yield from c4.c4_faults(view, config.c4)
    if config.gopher is not None:
        yield from gopher.gopher_faults(view, config.gopher)


def _runs(text: str, most: int) -> Iterator[tuple[str, str]]:
    for run in _RUN.finditer(text):
        if run.end() - run.start() > most:
            yield "char_run", f"'{run[1]}' {run.end() - run.start():,} times, at most {most:,}"
