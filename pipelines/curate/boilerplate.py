"""Lines that a source repeats in many of its documents, told by 64-bit hashes of the lines.

The lines' keys are counted elsewhere, a document counting once for each; here are the parts that see text.
"""

import math
from collections.abc import Set

import xxhash
from pydantic import Field

from pipelines.config import Config


class BoilerplateConfig(Config):
    """Which lines are boilerplate: navigation, licences, signatures that a source repeats in its documents.

    A line is dropped from all documents of a source where it stands in at least `min_documents` of them,
    and in at least the share `min_share` of them.

    Attributes:
        min_documents: Documents of the source that hold the line, at least.
        min_share: Share of the source's documents that hold the line, at least.
        min_chars: Shorter lines are never boilerplate: "Yes." and "Example:" mean something where they stand.
    """

    min_documents: int = Field(default=20, ge=2)
    min_share: float = Field(default=0.05, gt=0, le=1)
    min_chars: int = Field(default=20, ge=1)


def line_keys(text: str, min_chars: int) -> list[int]:
    """The distinct keys of the lines of `text`, in the order in which they first appear.

    Args:
        text: In normal form, with Unix newlines.
        min_chars: Lines with fewer characters between their outer white space have no key.

    Returns:
        Signed 64-bit integers, as a table's `bigint` holds them. Of a source with 100 million different
        lines, two have the same key with a chance of 0.03 %.
    """
    stripped = (line.strip() for line in text.split("\n"))
    return list(dict.fromkeys(_key(line) for line in stripped if len(line) >= min_chars))


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
