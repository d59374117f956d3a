"""A corpus of any size with real words and known near twins: perturbed copies of Debian's descriptions.

The recipe: document n is description n modulo their number, in its copy number n divided by it. The first
copies are the descriptions as they are. Of the others one in ten has one word in a hundred replaced, which
leaves most of them near duplicates; the rest have two words in three replaced, which leaves them none. Words
are drawn from all words of the descriptions, as often as they stand there. Everything follows from the seed.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.debian import debian_descriptions

_NEAR_SHARE, _NEAR_WORDS, _OTHER_WORDS = 0.1, 0.01, 2 / 3
_FILE_ROWS = 25_000


def write_copies(folder: Path, count: int, first: int = 0, seed: int = 0) -> None:
    """Writes documents `first` to `first + count` as Parquet files with doc_id, text and arrived_at."""
    folder.mkdir(parents=True, exist_ok=True)
    bases = [one.text.split(" ") for one in debian_descriptions()]
    words = np.array([word for base in bases for word in base], dtype=object)
    for at in range(first, first + count, _FILE_ROWS):
        numbers = range(at, min(at + _FILE_ROWS, first + count))
        texts = list(_texts(bases, words, numbers, np.random.default_rng((seed, at))))
        columns = {
            "doc_id": pa.array([f"{number:012d}" for number in numbers]),
            "text": pa.array(texts),
            "arrived_at": pa.array(np.array(numbers, dtype="datetime64[s]").astype("datetime64[us]")),
        }
        pq.write_table(pa.table(columns), folder / f"{at:012d}.parquet")


def _texts(
    bases: list[list[str]], words: np.ndarray, numbers: range, random: np.random.Generator
) -> Iterator[str]:
    for number in numbers:
        base = bases[number % len(bases)]
        if number < len(bases):
            yield " ".join(base)
            continue
        share = _NEAR_WORDS if random.random() < _NEAR_SHARE else _OTHER_WORDS
        is_other = random.random(len(base)) < share
        others = words[random.integers(len(words), size=len(base))]
        yield " ".join(np.where(is_other, others, np.array(base, dtype=object)))
