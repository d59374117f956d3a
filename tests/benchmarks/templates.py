"""Documents made from one template, the worst case of a bucket, and as many that share nothing.

Both kinds have 120 words. A template's document holds the same 104 words as all others and then 16 of its
own, the first of which is its number, so that two have 100 of 132 shingles in common: a similarity of 0.76,
just below the threshold, where many share a band and not one may be removed.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.debian import debian_descriptions

WORDS = 120
_OWN = 16
_FILE_ROWS = 25_000


def write_templates(folder: Path, count: int, own: int = _OWN) -> None:
    """Writes documents of `WORDS` words, of which `own` are a document's own; `WORDS` of them: distinct."""
    folder.mkdir(parents=True, exist_ok=True)
    words = np.array([word for one in debian_descriptions() for word in one.text.split()], dtype=object)
    random = np.random.default_rng(0)
    shared = " ".join(words[random.integers(len(words), size=WORDS - own)])
    for at in range(0, count, _FILE_ROWS):
        numbers = range(at, min(at + _FILE_ROWS, count))
        drawn = words[random.integers(len(words), size=(len(numbers), own))]
        drawn[:, 0] = [str(number) for number in numbers]
        texts = [f"{shared} {' '.join(row)}".strip() for row in drawn]
        columns = {"doc_id": pa.array([f"{number:012d}" for number in numbers]), "text": pa.array(texts)}
        pq.write_table(pa.table(columns), folder / f"{at:012d}.parquet")
