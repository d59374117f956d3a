"""Whether a text holds words of an evaluation query: n-grams, as sets of hashes."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import xxhash

from pipelines.errors import InputError
from pipelines.text import normalise

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """A text's words, in lower case, without punctuation."""
    return _WORD.findall(normalise(text).casefold())


def query_grams(queries: Iterable[str], size: int) -> dict[int, str]:
    """Hashes of what gives a query away, each with the first query that it is of.

    Args:
        queries: Their texts; those without a word give nothing away.
        size: Words of an n-gram. Of a query with fewer words, the whole query.
    """
    grams: dict[int, str] = {}
    for query in queries:
        found = words(query)
        if len(found) < size:
            if found:
                grams.setdefault(_whole(found), query)
            continue
        for gram in _grams(found, size):
            grams.setdefault(gram, query)
    return grams


def given_away(text: str, grams: Mapping[int, str], size: int) -> str | None:
    """The evaluation query that a text holds words of, or None.

    Args:
        text: One side of a pair.
        grams: See `query_grams`.
        size: As there.
    """
    found = words(text)
    if not found:
        return None
    # A query shorter than an n-gram is given away by the query itself, and not by each text with its words.
    for gram in (_whole(found), *_grams(found, size)):
        if gram in grams:
            return grams[gram]
    return None


def read_queries(files: Iterable[Path]) -> list[str]:
    """The queries in files: `text` of JSON lines (.jsonl), else a query a line.

    Raises:
        InputError: A file cannot be read, or a line of it has no text.
    """
    queries = []
    for file in files:
        try:
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            queries += [json.loads(line)["text"] if file.suffix == ".jsonl" else line for line in lines]
        except OSError as error:
            raise InputError(f"the evaluation queries in {file} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{file} is no file of queries: {error}", 'Each line of a .jsonl is {"text": "…"}'
            ) from error
    return queries


def _grams(found: list[str], size: int) -> Iterable[int]:
    return (_hash(" ".join(found[at : at + size])) for at in range(len(found) - size + 1))


def _whole(found: list[str]) -> int:
    return _hash("= " + " ".join(found))


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())
