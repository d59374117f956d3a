"""Lines that a source repeats in many of its documents, told by 64-bit hashes of the lines.

The lines' keys are counted in `rules.line_counts`, a document counting once for each; here are the parts
that see text.
"""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass

import xxhash
from pydantic import Field

from pipelines.config import Config

REASONS: dict[str, str] = {"boilerplate_only": "nothing but lines that its source repeats"}
"""Reason of a reject -> its meaning."""


class BoilerplateConfig(Config):
    """Which lines are boilerplate: navigation, licences, signatures that a source repeats in its documents.

    A line is dropped from all documents of a source where it stands in at least `min_documents` of them,
    and in at least the share `min_share` of them. Documents of one text count as one: a text that came
    twenty times repeats nothing.

    A source's lines are learnt once, by the first run that is switched on and brings `min_documents` of its
    documents, from those of that run; the table `boilerplate` keeps them. They are dropped from what that run
    and later ones read. Documents that the lake had before keep theirs until they are given again.

    The ledger keeps texts without the lines, so `--rebuild` neither learns anew nor brings a line back; nor
    do other values here, for a source that is learnt. Curating A and then B gives the tables of curating
    both at once only with the same lines: those learnt from A alone may be others than those from both.

    Attributes:
        min_documents: Documents of the source that hold the line, at least.
        min_share: Share of the source's documents that hold the line, at least.
        min_chars: Shorter lines are never boilerplate: "Yes." and "Example:" mean something where they stand.
    """

    min_documents: int = Field(default=20, ge=2)
    min_share: float = Field(default=0.05, gt=0, le=1)
    min_chars: int = Field(default=20, ge=1)


@dataclass(frozen=True)
class SourceLines:
    """What has been learnt.

    Attributes:
        min_chars: With which the keys were made.
        drop: Of each source that is learnt the keys of its lines, maybe none.
    """

    min_chars: int
    drop: Mapping[str, Set[int]]

    def without(self, text: str, source: str) -> str:
        """`text`, in normal form, without the lines of its source: `text` itself where it has none."""
        drop = self.drop.get(source)
        return without_lines(text, drop, self.min_chars) if drop else text


def keyed_lines(text: str, min_chars: int) -> dict[int, str]:
    """The distinct lines of `text` by their keys, as `line_keys` has them, without outer white space."""
    stripped = (line.strip() for line in text.split("\n"))
    return {_key(line): line for line in stripped if len(line) >= min_chars}


def line_keys(text: str, min_chars: int) -> list[int]:
    """The distinct keys of the lines of `text`, in the order in which they first appear.

    Args:
        text: In normal form, with Unix newlines.
        min_chars: Lines with fewer characters between their outer white space have no key.

    Returns:
        Signed 64-bit integers, as a table's `bigint` holds them. Of a source with 100 million different
        lines, two have the same key with a chance of 0.03 %.
    """
    return list(keyed_lines(text, min_chars))


def without_lines(text: str, drop: Set[int], min_chars: int) -> str:
    """`text` without the lines whose keys are in `drop`.

    Args:
        text: In normal form.
        drop: Keys as `line_keys` gives them.
        min_chars: As it was for `line_keys`.

    Returns:
        A text in normal form: `text` itself where no line is dropped, and maybe an empty one.
    """
    lines = text.split("\n")
    kept = [line for line in lines if not _is_dropped(line.strip(), drop, min_chars)]
    return text if len(kept) == len(lines) else "\n".join(kept).strip()


def documents_needed(documents: int, config: BoilerplateConfig) -> int:
    """In how many of a source's `documents` a line must stand to be boilerplate."""
    # 0.07 * 100 is 7.000000000000001 in binary.
    return max(config.min_documents, math.ceil(config.min_share * documents - 1e-9))


def _is_dropped(line: str, drop: Set[int], min_chars: int) -> bool:
    return len(line) >= min_chars and _key(line) in drop


def _key(line: str) -> int:
    key = xxhash.xxh3_64_intdigest(line.encode("utf-8"))
    return key - (1 << 64) if key >= 1 << 63 else key
