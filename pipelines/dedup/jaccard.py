"""The true Jaccard similarity of many pairs of documents."""

import numpy as np
import numpy.typing as npt

from pipelines.dedup.shingles import Shingles, offsets_of

_HUBS = 64  # documents that are marked at once: a bit each
_BLOCK = 1 << 22  # shingles that are looked up at once: 32 MB of places


def similarities(
    shingles: Shingles, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """|A and B| / |A or B| of each pair, over their sets of shingles.

    The shingles of 64 documents are marked at once, and those of all their partners looked up together, so
    that a pair costs little more than a look at its other document's shingles.

    Args:
        shingles: Of all documents; a document may hold one more than once.
        first: Document of each pair.
        second: The other one.
    """
    codes, offsets, count = _sets(shingles)
    degrees = np.bincount(np.concatenate([first, second]), minlength=len(shingles))
    swapped = degrees[second] > degrees[first]
    hubs, others = np.where(swapped, second, first), np.where(swapped, first, second)
    order = np.argsort(hubs, kind="stable")
    sizes = np.diff(offsets)
    shared = np.zeros(len(first), np.int64)
    marks = np.zeros(count, np.uint64)
    for part in _blocks(hubs[order], sizes[others[order]]):
        pairs = order[part]
        shared[pairs] = _shared(marks, codes, offsets, hubs[pairs], others[pairs])
    union = sizes[first] + sizes[second] - shared
    return np.divide(shared, union, out=np.zeros(len(first)), where=union > 0)


def _sets(shingles: Shingles) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Each document's distinct shingles as numbers, where each document's begin, and how many numbers."""
    different, codes = np.unique(shingles.hashes, return_inverse=True)
    count = max(len(different), 1)
    document = np.repeat(np.arange(len(shingles), dtype=np.int64), np.diff(shingles.offsets))
    # Sorted as one number: several times faster than by two keys, and ten times faster than `np.unique`.
    both = np.sort(document * count + codes)
    is_first = np.concatenate([[True], both[1:] != both[:-1]]) if len(both) else np.empty(0, np.bool_)
    document, codes = np.divmod(both[is_first], count)
    return codes, offsets_of(np.bincount(document, minlength=len(shingles))), count


def _blocks(hubs: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> list[slice]:
    """Cuts pairs, sorted by hub, where 64 hubs or about `_BLOCK` shingles are full."""
    ranks = offsets_of((np.diff(hubs) > 0).astype(np.int64)) if len(hubs) else hubs
    ends = np.cumsum(sizes)
    parts, start = [], 0
    while start < len(hubs):
        by_hubs = np.searchsorted(ranks, ranks[start] + _HUBS)
        by_size = np.searchsorted(ends, ends[start] - sizes[start] + _BLOCK, side="right")
        stop = max(start + 1, int(min(by_hubs, by_size)))
        parts.append(slice(start, stop))
        start = stop
    return parts


def _shared(
    marks: npt.NDArray[np.uint64],
    codes: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    hubs: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """How many shingles each hub has in common with its partner; `marks` is all zeros before and after."""
    marked, bits = np.unique(hubs, return_inverse=True)
    sets = [codes[offsets[hub] : offsets[hub + 1]] for hub in marked]
    for bit, one in enumerate(sets):
        marks[one] |= np.uint64(1 << bit)
    counts = offsets[others + 1] - offsets[others]
    starts = offsets_of(counts)
    places = np.repeat(offsets[others] - starts[:-1], counts) + np.arange(starts[-1])
    hits = (marks[codes[places]] >> np.repeat(bits.astype(np.uint64), counts)) & np.uint64(1)
    sums = offsets_of(hits)
    for one in sets:
        marks[one] = 0
    return sums[starts[1:]] - sums[starts[:-1]]
