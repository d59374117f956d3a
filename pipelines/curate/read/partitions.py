"""Partition folders: `lang=en/date=2026-01-01/part-0.parquet` has two columns more than the file itself."""

from collections import Counter
from collections.abc import Sequence
from urllib.parse import unquote

# Names and values of a file's partition columns, outermost folder first.
Partition = tuple[tuple[str, str | None], ...]

_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_of(name: str) -> Partition:
    """The partition columns of the file `name`, a path relative to the input.

    Names and values are URL-decoded, `__HIVE_DEFAULT_PARTITION__` is null, and of two folders that name one
    column the inner one counts.
    """
    values: dict[str, str | None] = {}
    for folder in name.split("/")[:-1]:
        key, sign, value = folder.partition("=")
        if key and sign:
            values[unquote(key)] = None if value == _NULL else unquote(value)
    return tuple(values.items())


def drifts(partitions: Sequence[Partition]) -> list[str]:
    """Per file what is odd about its partition columns; empty where they are those of the other files.

    The columns that the most files have are the right ones, and of two sets that equally many have the
    larger: one stray file among thousands is then the odd one, whichever way it differs.
    """
    keys = [frozenset(name for name, _ in partition) for partition in partitions]
    counts = Counter(keys)
    if len(counts) < 2:
        return [""] * len(keys)
    usual = max(counts, key=lambda key: (counts[key], len(key), sorted(key)))
    others = f"those of {counts[usual]} of {len(keys)} files name {_words(usual)}"
    return ["" if key == usual else f"its folders name {_words(key)}, {others}" for key in keys]


def _words(keys: frozenset[str]) -> str:
    return ", ".join(sorted(keys)) or "no partition column"
