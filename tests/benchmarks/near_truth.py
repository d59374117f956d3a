"""The truth of near-dedup: every pair of documents whose shingle sets are similar enough, found exactly.

A join with a prefix filter, not a sketch: with a set's shingles in one order for all, the rare ones first,
two sets of Jaccard similarity t or more share a shingle among the first |x| - ceil(t |x|) + 1 of each. Those
that share one are compared whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array  # type: ignore[import-untyped]

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
_PRODUCTS = 10_000_000  # of a block of the candidates' matrix product; some 40 bytes each at most
_SHINGLES = 10_000_000  # of the pairs that are compared at once
_ROUNDING = 1e-9  # of sizes times the threshold: errs towards more candidates


@dataclass(frozen=True)
class NearPairs:
    """Pairs of places in the input, in order.

    Attributes:
        first: The lower place of each pair.
        second: The higher place.
        similarity: The Jaccard similarity of their sets.
        candidates: Pairs that were compared to find these.
    """

    first: Ints
    second: Ints
    similarity: npt.NDArray[np.float64]
    candidates: int


def near_pairs(sets: Sequence[Hashes], threshold: float = 0.8) -> NearPairs:
    """All pairs of sets with a Jaccard similarity of the threshold or more.

    Args:
        sets: Distinct shingle hashes of each document, at least one document. Empty sets are in no pair.
        threshold: Above 0, at most 1.
    """
    lengths = np.array([len(one) for one in sets], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")  # the shorter of a pair comes first
    sizes = lengths[order]
    whole = _matrix(_rare_first([sets[at] for at in order]), sizes, sizes)
    kept = sizes - np.ceil(threshold * sizes - _ROUNDING).astype(np.int64) + 1
    prefixes = _matrix(whole.indices, sizes, np.minimum(kept, sizes))
    parts, candidates = [(order[:0], order[:0], np.empty(0))], 0
    for rows, columns in _candidates(prefixes, sizes, threshold):
        candidates += len(rows)
        shared = _shared(whole, sizes, rows, columns)
        similarity = shared / (sizes[rows] + sizes[columns] - shared)
        near = similarity >= threshold
        parts.append((order[rows[near]], order[columns[near]], similarity[near]))
    one, other, similarity = (np.concatenate(column) for column in zip(*parts, strict=True))
    first, second = np.minimum(one, other), np.maximum(one, other)
    sequence = np.lexsort((second, first))
    return NearPairs(first[sequence], second[sequence], similarity[sequence], candidates)


def check(
    sets: Sequence[Hashes], found: NearPairs, threshold: float = 0.8, sample: int = 300, seed: int = 0
) -> int:
    """Compares the pairs of some documents, drawn at random, with all documents one by one.

    Args:
        sets: What `near_pairs` was given.
        found: What it gave.
        threshold: As it was given.
        sample: Documents to draw.
        seed: Of the draw.

    Returns:
        The pairs that the sample is in.

    Raises:
        AssertionError: A pair is missing, too many or of another similarity.
    """
    draw = np.random.default_rng(seed)
    chosen = draw.choice(len(sets), size=min(sample, len(sets)), replace=False).tolist()
    members = [frozenset(one.tolist()) for one in sets]
    expected = {}
    for at in chosen:
        mine = members[at]
        for other, theirs in enumerate(members):
            smaller, larger = sorted((len(mine), len(theirs)))
            if other == at or not smaller or smaller / larger < threshold:
                continue  # the similarity is at most that of the sizes
            shared = len(mine & theirs)
            if (similarity := shared / (smaller + larger - shared)) >= threshold:
                expected[min(at, other), max(at, other)] = similarity
    pairs = zip(found.first.tolist(), found.second.tolist(), found.similarity.tolist(), strict=True)
    wanted = set(chosen)
    given = {(one, two): value for one, two, value in pairs if one in wanted or two in wanted}
    if given != expected:
        raise AssertionError(f"{len(given)} pairs found, {len(expected)} expected")
    return len(expected)


def _rare_first(sets: Sequence[Hashes]) -> Ints:
    """The sets' shingles one after another as numbers, the rarest 0; each set's in ascending order."""
    hashes, counts = np.unique(np.concatenate(sets), return_counts=True)
    ranks = np.empty(len(hashes), dtype=np.int64)
    ranks[np.argsort(counts, kind="stable")] = np.arange(len(hashes))
    return np.concatenate([np.sort(ranks[np.searchsorted(hashes, one)]) for one in sets])


def _matrix(shingles: Ints, sizes: Ints, kept: Ints) -> csr_array:
    """A row of ones for each set, at the first so many of its shingles."""
    within = np.arange(len(shingles)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    columns = shingles[within < np.repeat(kept, sizes)]
    starts = np.concatenate([[0], np.cumsum(kept)])
    width = int(shingles.max(initial=0)) + 1
    return csr_array((np.ones(len(columns), dtype=np.int32), columns, starts), shape=(len(sizes), width))


def _candidates(prefixes: csr_array, sizes: Ints, threshold: float) -> Iterator[tuple[Ints, Ints]]:
    """Pairs that share a shingle of their prefixes and do not differ too much in size, in blocks."""
    uses = np.bincount(prefixes.indices, minlength=prefixes.shape[1])
    work = np.concatenate([[0], np.cumsum(uses[prefixes.indices])])[prefixes.indptr]
    lowest = np.searchsorted(sizes, np.ceil(threshold * sizes - _ROUNDING))
    start = int(np.searchsorted(sizes, 1))
    while start < len(sizes):
        stop = max(start + 1, int(np.searchsorted(work, work[start] + _PRODUCTS)))
        stop = min(stop, len(sizes))
        low = int(lowest[start])
        product = (prefixes[start:stop] @ prefixes[low:stop].T).tocoo()
        rows, columns = product.row.astype(np.int64) + start, product.col.astype(np.int64) + low
        fits = (columns < rows) & (columns >= lowest[rows])
        yield rows[fits], columns[fits]
        start = stop


def _shared(whole: csr_array, sizes: Ints, rows: Ints, columns: Ints) -> Ints:
    """How many shingles the two sets of each pair have in common."""
    counts = [np.empty(0, dtype=np.int64)]
    ends = np.cumsum(sizes[rows] + sizes[columns])
    start = 0
    while start < len(rows):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _SHINGLES)))
        both = whole[rows[start:stop]].multiply(whole[columns[start:stop]])
        counts.append(np.diff(both.indptr).astype(np.int64))
        start = stop
    return np.concatenate(counts)
