"""Real text that every environment has: the docstrings of installed packages, cut at word boundaries."""

import ast
from bisect import bisect_right
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import numpy as np

from pipelines.encoder.tokenizer import Tokenizer

# Scripts and signs that docstrings lack.
FOREIGN = (
    "Ein größeres Wörterbuch, naïve façade",
    "Быстрая коричневая лиса",
    "東京都は日本の首都です。",
    "한국어 문장",
    "שלום עולם",
    "हिन्दी में एक वाक्य",
    "👩‍👩‍👧 family [SEP] of [MASK] emoji 🎉",
)


def docstrings(package: str) -> Iterator[str]:
    """Docstrings of a package's modules, classes and functions, in the order of its files."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    for file in sorted(Path(spec.submodule_search_locations[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield ast.get_docstring(node) or ""


def filled_chunks(tokenizer: Tokenizer, count: int, most: int) -> list[str]:
    """Docstrings cut as `curate` cuts documents: into pieces of at most `most` tokens, without overlap.

    Most docstrings are shorter than a chunk, so lengths range from a few tokens to `most`.
    """
    found: dict[str, None] = {}  # in order, each once
    for text in chain.from_iterable(map(docstrings, ("numpy", "pydantic", "pyiceberg"))):
        ids, offsets = tokenizer.encode(text)
        starts = [*np.flatnonzero(tokenizer.word_starts(ids)).tolist(), len(ids)]
        places = [*(start for start, _ in offsets), len(text)]
        begin = 0
        while begin < len(ids):
            end = starts[bisect_right(starts, begin + most) - 1]
            if end <= begin:
                break  # a word longer than a chunk
            found[text[places[begin] : places[end]].strip()] = None
            begin = end
        if len(found) >= count:
            return list(found)[:count]
    raise AssertionError(f"the docstrings make only {len(found)} chunks")


def chunks(tokenizer: Tokenizer, count: int) -> list[str]:
    """Beginnings of docstrings, of 8 to 44 tokens each, and the foreign texts."""
    found = list(FOREIGN)
    seen = set(found)
    for text in chain.from_iterable(map(docstrings, ("pydantic", "pyiceberg", "numpy"))):
        ids, offsets = tokenizer.encode(text)
        limit = 8 + len(found) * 17 % 37  # lengths vary, so that batches pad
        if len(ids) <= limit:
            continue
        starts_word = tokenizer.word_starts(ids)
        end = next(i for i in range(limit, 0, -1) if starts_word[i])
        chunk = text[: offsets[end][0]].strip()
        if chunk not in seen:
            seen.add(chunk)
            found.append(chunk)
        if len(found) == count:
            return found
    raise AssertionError(f"only {len(found)} docstrings are long enough")
