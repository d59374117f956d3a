"""Settings of the quality rules of the curate stage.

Only rules that no document worth an embedding breaks are on by default. Every other rule is off until it is
given a threshold (null switches a rule off), or with its preset: `gopher: true` and `c4: true` switch on all
rules of a paper with its published thresholds, each of which can be set on its own.
"""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from pipelines.config import Config

Share = Annotated[float, Field(ge=0, le=1)]


class GopherConfig(Config):
    """The rules of MassiveText: Rae et al. 2021, "Scaling Language Models", appendix A.1.1 and table A1.

    Words are those of `rules.words`. A document is rejected where a measure passes its threshold.

    Attributes:
        min_words: Words of a document, at least.
        max_words: Words of a document, at most.
        min_mean_word_length: Letters of a word on average, at least; not asked of scripts without spaces.
        max_mean_word_length: Letters of a word on average, at most; not asked of scripts without spaces.
        max_symbol_ratio: Hash signs a word, and ellipses a word, at most.
        max_bullet_lines: Share of the lines that start with a bullet.
        max_ellipsis_lines: Share of the lines that end with an ellipsis.
        min_alphabetic_words: Share of the words with a letter of any script, at least.
        min_stop_words: Different words of "the be to of and that have with", at least; asked of texts that
            the language detector takes for English only.
        max_duplicate_lines: Share of the lines that repeat an earlier one.
        max_duplicate_line_chars: Share of the characters in such lines.
        max_duplicate_paragraphs: Share of the paragraphs that repeat an earlier one.
        max_duplicate_paragraph_chars: Share of the characters in such paragraphs.
        max_top_2gram_chars: Share of the characters in the most frequent sequence of 2 words.
        max_top_3gram_chars: The same, of 3 words.
        max_top_4gram_chars: The same, of 4 words.
        max_duplicate_5gram_chars: Share of the characters in sequences of 5 words that were there before.
        max_duplicate_6gram_chars: The same, of 6 words.
        max_duplicate_7gram_chars: The same, of 7 words.
        max_duplicate_8gram_chars: The same, of 8 words.
        max_duplicate_9gram_chars: The same, of 9 words.
        max_duplicate_10gram_chars: The same, of 10 words.
    """

    min_words: int | None = Field(default=50, ge=0)
    max_words: int | None = Field(default=100_000, ge=1)
    min_mean_word_length: float | None = Field(default=3, ge=0)
    max_mean_word_length: float | None = Field(default=10, gt=0)
    max_symbol_ratio: float | None = Field(default=0.1, ge=0)
    max_bullet_lines: Share | None = 0.9
    max_ellipsis_lines: Share | None = 0.3
    min_alphabetic_words: Share | None = 0.8
    min_stop_words: int | None = Field(default=2, ge=0, le=8)
    max_duplicate_lines: Share | None = 0.3
    max_duplicate_line_chars: Share | None = 0.2
    max_duplicate_paragraphs: Share | None = 0.3
    max_duplicate_paragraph_chars: Share | None = 0.2
    max_top_2gram_chars: Share | None = 0.2
    max_top_3gram_chars: Share | None = 0.18
    max_top_4gram_chars: Share | None = 0.16
    max_duplicate_5gram_chars: Share | None = 0.15
    max_duplicate_6gram_chars: Share | None = 0.14
    max_duplicate_7gram_chars: Share | None = 0.13
    max_duplicate_8gram_chars: Share | None = 0.12
    max_duplicate_9gram_chars: Share | None = 0.11
    max_duplicate_10gram_chars: Share | None = 0.1

    @model_validator(mode="after")
    def _ordered(self) -> "GopherConfig":
        _check_order(self, "min_words", "max_words")
        _check_order(self, "min_mean_word_length", "max_mean_word_length")
        return self


class C4Config(Config):
    """The rules of C4: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 2.2.

    C4 removes single lines where this rejects documents, so the two shares of lines are not the paper's.
    Its other removals of lines (without a full stop, under five words) and its list of bad words are left
    out: headings and lists are worth an embedding.

    Attributes:
        lorem_ipsum: Whether to reject documents that hold "lorem ipsum".
        curly_brace: Whether to reject documents that hold an opening curly brace: mostly code.
        max_javascript_lines: Share of the lines that speak of JavaScript.
        max_policy_lines: Share of the lines that speak of cookies, a privacy policy or terms of use, in
            English.
        min_sentences: Sentences of a document, at least (5 in the paper's first version); not asked of
            scripts that do not mark them (Thai, Lao).
    """

    lorem_ipsum: bool = True
    curly_brace: bool = True
    max_javascript_lines: Share | None = 0.3
    max_policy_lines: Share | None = 0.3
    min_sentences: int | None = Field(default=3, ge=0)


class QualityConfig(Config):
    """Which texts are not worth an embedding.

    Attributes:
        reject_without_letters: Whether to reject texts without one letter or digit of any script.
        max_replacement_chars: Share of the characters that are U+FFFD, which stands for bytes lost earlier.
        min_chars: Characters of a document, at least.
        max_chars: Characters of a document, at most.
        max_char_run: Longest run of one same character that is no space.
        gopher: The rules of Gopher's MassiveText; `true` for its published thresholds.
        c4: The rules of C4; `true` for its published thresholds.
        fix_encoding: Whether to mend text that was decoded with the wrong encoding ("Ã©" for "é").
    """

    reject_without_letters: bool = True
    max_replacement_chars: Share | None = 0.1
    min_chars: int | None = Field(default=None, ge=1)
    max_chars: int | None = Field(default=None, ge=1)
    max_char_run: int | None = Field(default=None, ge=8)
    gopher: GopherConfig | None = None
    c4: C4Config | None = None
    fix_encoding: bool = False

    @field_validator("gopher", "c4", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        # From the environment and the command line all values come as text.
        switches: dict[str | bool, Any] = {"true": {}, "false": None, True: {}, False: None}
        key = value.lower() if isinstance(value, str) else value
        return switches[key] if isinstance(key, str | bool) and key in switches else value

    @model_validator(mode="after")
    def _ordered(self) -> "QualityConfig":
        _check_order(self, "min_chars", "max_chars")
        return self


def _check_order(config: Config, low: str, high: str) -> None:
    least, most = getattr(config, low), getattr(config, high)
    if least is not None and most is not None and least > most:
        raise ValueError(f"{low} must be at most {high}")
